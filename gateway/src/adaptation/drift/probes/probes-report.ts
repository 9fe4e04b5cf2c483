import type { ProbeEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { ProbeRow } from '../../../storage/db/queries/probe-queries.ts'
import { compareProbes } from './compare-probes.ts'

/** Describes stored scores of the probe texts of one model for the admin API. */
export function probeEntries(rows: readonly ProbeRow[]): ProbeEntry[] {
  return [...Map.groupBy(rows, ({ maskVersion }) => maskVersion).values()].flatMap((scores) => {
    const verdicts = compareProbes(scores)
    return scores.map(({ nodeId, maskVersion, nll, mismatches, measuredAt }, index) => ({
      node: nodeId,
      mask_version: maskVersion,
      nll,
      expected: verdicts[index]?.expected ?? null,
      // As it was compared when it was stored, so that it says what the alerts say.
      matches: mismatches === 0,
      measured_at: new Date(measuredAt).toISOString(),
    }))
  })
}

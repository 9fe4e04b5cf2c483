import type { Deps } from '../../../contracts/bindings.ts'
import { endAlerts, listAlerts } from '../../../storage/db/queries/alert-queries.ts'
import { listProbeScores, MAX_PROBE_AGE_MS } from '../../../storage/db/queries/probe-queries.ts'

/** Ends the alerts of nodes that have not scored the probe texts under the mask for an hour: they are gone, or no longer hold it. */
export async function endStaleProbeAlerts({ db, nowMs }: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  const held = await listAlerts(db, { kind: 'probe_mismatch', active: true })
  if (held.length === 0) return
  const scores = await listProbeScores(db, undefined, nowMs() - MAX_PROBE_AGE_MS)
  const stale = held.filter(
    ({ model, nodeId, maskVersion }) =>
      !scores.some((row) => row.model === model && row.nodeId === nodeId && row.maskVersion === maskVersion),
  )
  await endAlerts(
    db,
    stale.map(({ id }) => id),
    nowMs(),
  )
}

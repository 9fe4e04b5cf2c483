import type { sumUsageOfService } from '../../storage/db/queries/metric-total-queries.ts'
import { USAGE_SUMS } from '../../storage/db/queries/usage-total-queries.ts'
import type { LabelBounds } from './label-bounds.ts'

/** Sums of settled requests by model, domain, mask and finish reason. */
export type UsageRow = Awaited<ReturnType<typeof sumUsageOfService>>[number]

/** Adds up the rows of domains that have no series of their own, and leaves out those of masks that have none. */
export function boundRows(rows: readonly UsageRow[], bounds: LabelBounds): UsageRow[] {
  const merged = new Map<string, UsageRow>()
  for (const row of rows) {
    const { model, maskVersion, finishReason } = row
    if (!bounds.showsMask(model, maskVersion)) continue
    const domain = bounds.domain(model, row.domain)
    const key = JSON.stringify([model, domain, maskVersion, finishReason])
    const known = merged.get(key)
    if (!known) merged.set(key, { ...row, domain })
    else for (const name of USAGE_SUMS) known[name] += row[name]
  }
  return [...merged.values()]
}

import type { UsageRow } from '../../storage/db/queries/metric-total-queries.ts'
import { USAGE_SUMS } from '../../storage/db/queries/usage-total-queries.ts'
import type { LabelBounds } from './label-bounds.ts'

/** Adds up the rows of domains that have no series of their own. */
export function boundRows(rows: readonly UsageRow[], bounds: LabelBounds): UsageRow[] {
  const merged = new Map<string, UsageRow>()
  for (const row of rows) {
    const { model, maskVersion, finishReason } = row
    const domain = bounds.domain(model, row.domain)
    const key = JSON.stringify([model, domain, maskVersion, finishReason])
    const known = merged.get(key)
    if (!known) merged.set(key, { ...row, domain })
    else for (const name of USAGE_SUMS) known[name] += row[name]
  }
  return [...merged.values()]
}

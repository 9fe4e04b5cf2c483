import type { ServedMask } from '../../storage/db/queries/rollback-queries.ts'

/** The masks that a roll-back affects. */
export interface RollbackPlan {
  /** They became active after the target and are no ancestors of it: the texts of their updates do not count any more. */
  rolledBack: ServedMask[]
  /** The target and its ancestors: the texts of their updates count. */
  kept: ServedMask[]
}

/**
 * Returns the masks that are rolled back when `version` becomes active, and those that are kept. A pure function.
 *
 * Statistics only ever grow along the line of parents, so the target's own line tells what its successors may be selected
 * from. The line ends at an imported mask without a parent; updates from before the target stay as they are.
 *
 * @param masks the masks that were ever active
 * @param version the target; 0 is dense, to which every mask is a successor
 */
export function planRollback(masks: readonly ServedMask[], version: number): RollbackPlan {
  const byVersion = new Map(masks.map((mask) => [mask.version, mask]))
  const line = new Set<ServedMask>()
  for (let mask = byVersion.get(version); mask && !line.has(mask);) {
    line.add(mask)
    mask = mask.parentVersion === null ? undefined : byVersion.get(mask.parentVersion)
  }
  const target = byVersion.get(version)
  const isLater = (mask: ServedMask): boolean => {
    if (!target) return true
    const [one, other] = [mask.promotedAt ?? 0, target.promotedAt ?? 0]
    return one > other || (one === other && mask.version > target.version)
  }
  return { rolledBack: masks.filter((mask) => !line.has(mask) && isLater(mask)), kept: [...line] }
}

import { IMPORT_PREFIX } from '../../storage/db/queries/mask-queries.ts'
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
 * from. The line ends at an imported mask without a parent; updates from before the target stay as they are, except those on the
 * line of the active mask since it left that of the target: a roll-back may have made it active again after the target.
 *
 * @param masks the masks that were ever active
 * @param version the target; 0 is dense, to which every mask is a successor
 * @param active the active version
 */
export function planRollback(masks: readonly ServedMask[], version: number, active: number): RollbackPlan {
  const byVersion = new Map(masks.map((mask) => [mask.version, mask]))
  const [line, isFromDense] = lineOf(byVersion, version)
  const [activeLine, isActiveFromDense] = lineOf(byVersion, active)
  const left = [...activeLine].filter((mask) => !line.has(mask))
  const isFork = left.length < activeLine.size || (isFromDense && isActiveFromDense)
  const target = byVersion.get(version)
  const isLater = (mask: ServedMask): boolean => {
    if (!target) return true
    const [one, other] = [mask.promotedAt ?? 0, target.promotedAt ?? 0]
    return one > other || (one === other && mask.version > target.version)
  }
  const isLeft = (mask: ServedMask) => isLater(mask) || (isFork && left.includes(mask))
  return { rolledBack: masks.filter((mask) => !line.has(mask) && isLeft(mask)), kept: [...line] }
}

/** Returns a mask with its ancestors, and whether the first of them was selected from the dense weights and not imported. */
function lineOf(
  byVersion: ReadonlyMap<number, ServedMask>,
  version: number,
): [line: Set<ServedMask>, isFromDense: boolean] {
  const line = new Set<ServedMask>()
  let last: ServedMask | undefined
  for (let mask = byVersion.get(version); mask && !line.has(mask);) {
    line.add(mask)
    last = mask
    mask = mask.parentVersion === null ? undefined : byVersion.get(mask.parentVersion)
  }
  return [line, last?.parentVersion === null && !last.updateId.startsWith(IMPORT_PREFIX)]
}

import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { keptCounts, type MaskScope, type SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { nthSmallest } from './nth-smallest.ts'

/**
 * Selects the weights with the highest scores in every group of the pattern (row, matrix, or m consecutive columns), as
 * many as {@link keptCounts} returns. Of equal scores the lower column is pruned first.
 *
 * @param score `[rows, cols]` row-major, finite
 * @returns mask bits `[rows, ceil(cols/8)]`
 * @throws RangeError when a score is not finite
 * @throws AppError `invalid_request` when the pattern does not fit the columns
 */
export function selectKept(
  score: Float64Array,
  rows: number,
  cols: number,
  pattern: SparsityPattern,
  scope: MaskScope,
): Uint8Array {
  const { groups, size, kept } = keptCounts(pattern, scope, rows, cols)
  const bits = new Uint8Array(rows * rowBytes(cols))
  const choice = { score, cols, bits, scratch: new Float64Array(size) }
  for (let first = 0; first < groups * size; first += size) {
    keepHighest(choice, first, first + size, size - kept)
  }
  freeMemory(choice.scratch)
  return bits
}

/**
 * Selects the weights with the highest scores in every row, `kept[row]` of them. Of equal scores the lower column is pruned
 * first.
 *
 * @param score `[rows, cols]` row-major, finite
 * @param kept `[rows]`, at most `cols` each
 * @returns mask bits `[rows, ceil(cols/8)]`
 * @throws RangeError when a score is not finite
 */
export function selectKeptPerRow(
  score: Float64Array,
  rows: number,
  cols: number,
  kept: Uint32Array,
): Uint8Array {
  const bits = new Uint8Array(rows * rowBytes(cols))
  const choice = { score, cols, bits, scratch: new Float64Array(cols) }
  for (let row = 0; row < rows; row++) {
    keepHighest(choice, row * cols, (row + 1) * cols, cols - (kept[row] as number))
  }
  return bits
}

/** A matrix of scores whose mask is selected group by group. */
export interface GroupSelection {
  /** `[rows, cols]` row-major. */
  score: Float64Array
  cols: number
  /** Mask bits `[rows, ceil(cols/8)]`, zero in groups that are not selected yet. */
  bits: Uint8Array
  /** At least as long as a group; overwritten. */
  scratch: Float64Array
}

/**
 * Sets the mask bits of `score[begin … end)` except those of its `pruned` lowest scores. Of equal scores the first are pruned.
 *
 * @throws RangeError when a score is not finite
 */
export function keepHighest(choice: GroupSelection, begin: number, end: number, pruned: number): void {
  const { score, cols, bits, scratch } = choice
  // Also where nothing is pruned, so that scores that are not finite are found.
  const least = nthSmallest(score, [begin, end], Math.max(0, pruned - 1), scratch)
  const threshold = pruned === 0 ? Number.NEGATIVE_INFINITY : least
  let ties = pruned - keepFrom(choice, begin, end, threshold)
  for (let at = begin; ties > 0; at++) {
    if (score[at] !== threshold) continue
    const row = Math.floor(at / cols)
    const col = at - row * cols
    const byte = row * rowBytes(cols) + (col >> 3)
    bits[byte] = (bits[byte] as number) & ~(1 << (col & 7))
    ties--
  }
}

/** A difference, and its bits as integers: the sign is in the upper half. */
const difference = new Float64Array(1)
const halves = new Uint32Array(difference.buffer)

/**
 * Sets the bits of `score[begin … end)` that are not below the threshold. Its branches do not depend on the scores.
 *
 * @returns the number of scores below the threshold
 */
function keepFrom(
  { score, cols, bits }: GroupSelection,
  begin: number,
  end: number,
  threshold: number,
): number {
  let below = 0
  let row = Math.floor(begin / cols)
  let col = begin - row * cols
  const width = rowBytes(cols)
  let byte = 0
  for (let i = begin; i < end; i++) {
    // Adding 0 makes −0, the difference of −0 and 0, a 0.
    difference[0] = (score[i] as number) - threshold + 0
    const isBelow = (halves[1] as number) >>> 31
    below += isBelow
    byte |= (isBelow ^ 1) << (col & 7)
    col++
    if ((col & 7) === 0 || col === cols || i === end - 1) {
      const at = row * width + ((col - 1) >> 3)
      bits[at] = (bits[at] as number) | byte
      byte = 0
    }
    if (col === cols) {
      col = 0
      row++
    }
  }
  return below
}

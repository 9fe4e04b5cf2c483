import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { keptCounts, type MaskScope, type SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'

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
  const { score, scratch } = choice
  const group = scratch.subarray(0, end - begin)
  group.set(score.subarray(begin, end))
  const threshold = pruned === 0 ? Number.NEGATIVE_INFINITY : nthSmallest(group, pruned - 1)
  keepAbove(choice, begin, end, threshold, pruned)
}

/** Sets the bits of `score[begin … end)` except `pruned` of them: all below the threshold, then the first equal to it. */
function keepAbove(
  { score, cols, bits }: GroupSelection,
  begin: number,
  end: number,
  threshold: number,
  pruned: number,
): void {
  let below = 0
  let nonFinite = 0
  for (let i = begin; i < end; i++) {
    const value = score[i] as number
    below += value < threshold ? 1 : 0
    nonFinite += value - value
  }
  // `value - value` is NaN for NaN and infinities, else 0.
  if (Number.isNaN(nonFinite))
    throw new RangeError('a score is not finite, so the weights or the statistics are not finite')
  let ties = pruned - below
  let row = Math.floor(begin / cols)
  let col = begin - row * cols
  const width = rowBytes(cols)
  for (let i = begin; i < end; i++) {
    const value = score[i] as number
    if (value === threshold && ties > 0) {
      ties--
    } else {
      const at = row * width + (col >> 3)
      bits[at] = (bits[at] as number) | ((value < threshold ? 0 : 1) << (col & 7))
    }
    if (++col === cols) {
      col = 0
      row++
    }
  }
}

/**
 * Returns the value at index `rank` of the sorted values, and reorders `values`: Hoare's selection with the median of three
 * as pivot.
 */
function nthSmallest(values: Float64Array, rank: number): number {
  let low = 0
  let high = values.length - 1
  while (low < high) {
    const pivot = median(values[low] as number, values[(low + high) >> 1] as number, values[high] as number)
    let i = low
    let j = high
    while (i <= j) {
      while ((values[i] as number) < pivot) i++
      while ((values[j] as number) > pivot) j--
      if (i <= j) {
        const swapped = values[i] as number
        values[i++] = values[j] as number
        values[j--] = swapped
      }
    }
    if (rank <= j) high = j
    else if (rank >= i) low = i
    else break
  }
  return values[rank] as number
}

function median(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}

import { rowBytes } from '@copal/shared/mask/bits.ts'
import { keptCounts, type MaskScope, type SparsityPattern } from '@copal/shared/mask/pattern.ts'

/**
 * Chooses what a mask keeps: in every group that the pattern names (row, matrix, or m consecutive columns) the
 * lowest scores go, exactly as many as {@link keptCounts} says; of equal scores the lower column goes first.
 *
 * @param score `[rows, cols]` row-major, no NaN
 * @returns mask bits `[rows, ceil(cols/8)]`
 * @throws RangeError a score is NaN
 * @throws AppError `invalid_request` the pattern does not fit the columns
 */
export function selectKept(
  score: Float64Array,
  rows: number,
  cols: number,
  pattern: SparsityPattern,
  scope: MaskScope,
): Uint8Array {
  const { groups, size, kept } = keptCounts(pattern, scope, rows, cols)
  const width = rowBytes(cols)
  const bits = new Uint8Array(rows * width)
  const scratch = new Float64Array(size)
  for (let group = 0; group < groups; group++) {
    const first = group * size
    const values = score.subarray(first, first + size)
    scratch.set(values)
    const pruned = size - kept
    const threshold = pruned === 0 ? Number.NEGATIVE_INFINITY : nthSmallest(scratch, pruned - 1)
    let ties = pruned
    for (const value of values) {
      if (Number.isNaN(value)) throw new RangeError('a score is NaN: the weights or statistics are not finite')
      if (value < threshold) ties--
    }
    for (let i = 0; i < size; i++) {
      const value = values[i] as number
      if (value < threshold) continue
      if (value === threshold && ties > 0) {
        ties--
        continue
      }
      const row = Math.floor((first + i) / cols)
      const col = first + i - row * cols
      const at = row * width + (col >> 3)
      bits[at] = (bits[at] as number) | (1 << (col & 7))
    }
  }
  return bits
}

/** The value that sorting would put at `rank` (0-based); reorders `values`. Hoare's selection, median of three. */
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

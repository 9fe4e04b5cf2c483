import { AppError } from '../errors.ts'

/** Who competes for being kept in an unstructured mask: the weights of an output row, or of the whole matrix. */
export type MaskScope = 'row' | 'matrix'

/**
 * A sparsity pattern: `ratio` of the weights is pruned, or `keep` of every `group` consecutive
 * columns are kept.
 */
export type SparsityPattern = { kind: 'ratio'; ratio: number } | { kind: 'n:m'; keep: number; group: number }

/** A partition of a matrix in flat (row-major) order: each of `groups` runs of `size` weights keeps exactly `kept`. */
export interface KeptCounts {
  groups: number
  size: number
  kept: number
}

/**
 * Reads `0.5` (ratio of pruned weights, at most four decimals) or `2:4` (two of every four are kept).
 *
 * @throws AppError `invalid_request`, param `pattern`
 */
export function parsePattern(text: string): SparsityPattern {
  if (/^0\.\d{1,4}$/.test(text)) return { kind: 'ratio', ratio: Number(text) }
  const [, n, m] = /^([1-9]\d{0,2}):([1-9]\d{0,2})$/.exec(text) ?? []
  const keep = Number(n)
  const group = Number(m)
  if (keep < group) return { kind: 'n:m', keep, group }
  throw new AppError(
    'invalid_request',
    `'${text}' is not a sparsity pattern: expected a ratio of pruned weights like '0.5', or n of m like '2:4' with n < m.`,
    { param: 'pattern' },
  )
}

/**
 * How many weights a mask of `pattern` keeps where. A ratio prunes `⌊size · ratio⌋` of each row or of the
 * matrix; `scope` has no meaning for n:m, which always works along the columns.
 *
 * @throws AppError `invalid_request` when the columns are not whole groups of m.
 */
export function keptCounts(
  pattern: SparsityPattern,
  scope: MaskScope,
  rows: number,
  cols: number,
): KeptCounts {
  if (pattern.kind === 'n:m') {
    if (cols % pattern.group !== 0) {
      throw new AppError(
        'invalid_request',
        `${cols} columns are not whole groups of ${pattern.group}: the pattern ${pattern.keep}:${pattern.group} does not fit.`,
        { param: 'pattern' },
      )
    }
    return { groups: rows * (cols / pattern.group), size: pattern.group, kept: pattern.keep }
  }
  const [groups, size] = scope === 'row' ? [rows, cols] : [1, rows * cols]
  return { groups, size, kept: size - Math.floor(size * pattern.ratio) }
}

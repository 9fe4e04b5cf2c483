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

/** Longest run of columns that n:m speaks of. */
const MAX_GROUP = 64

/**
 * Reads `0.5` (ratio of pruned weights between 0 and 1, at most four decimals) or `2:4` (two of every four
 * consecutive columns are kept; n < m ≤ 64).
 *
 * @throws AppError `invalid_request`, param `pattern`
 */
export function parsePattern(text: string): SparsityPattern {
  const pattern = tryParsePattern(text)
  if (typeof pattern === 'object') return pattern
  throw new AppError('invalid_request', `${patternError(text)}.`, { param: 'pattern' })
}

/** Why a text is not a pattern that {@link parsePattern} reads, as a sentence without its full stop; else undefined. */
export function patternError(text: string): string | undefined {
  const fault = tryParsePattern(text)
  if (typeof fault === 'object') return undefined
  return `'${text}' is not a sparsity pattern: ${fault}`
}

/** The pattern, or what is wrong. */
function tryParsePattern(text: string): SparsityPattern | string {
  if (/^-?\d+(\.\d{1,4})?$/.test(text)) {
    const ratio = Number(text)
    if (ratio > 0 && ratio < 1) return { kind: 'ratio', ratio }
    return 'a ratio of pruned weights lies between 0 and 1, without either'
  }
  const [, n, m] = /^([1-9]\d{0,2}):([1-9]\d{0,2})$/.exec(text) ?? []
  if (n === undefined) {
    return "expected a ratio of pruned weights with at most four decimals like '0.5', or n of m like '2:4'"
  }
  const keep = Number(n)
  const group = Number(m)
  if (keep >= group) return `n of m keeps n of every m weights, so n is less than m`
  if (group > MAX_GROUP) return `n of m takes groups of at most ${MAX_GROUP} weights`
  return { kind: 'n:m', keep, group }
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

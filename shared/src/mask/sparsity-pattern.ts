import { AppError } from '../errors.ts'

/** The weights that compete with each other in an unstructured mask: those of an output row, or of the whole matrix. */
export type MaskScope = 'row' | 'matrix'

/**
 * A sparsity pattern: a fraction `ratio` of the weights is pruned, or `keep` of every `group` consecutive columns are
 * kept.
 */
export type SparsityPattern = { kind: 'ratio'; ratio: number } | { kind: 'n:m'; keep: number; group: number }

/** A partition of a matrix in row-major order: each of `groups` runs of `size` weights keeps exactly `kept`. */
export interface KeptCounts {
  groups: number
  size: number
  kept: number
}

/** Largest m of n:m, columns. */
const MAX_GROUP = 64

/**
 * Parses `0.5` (fraction of pruned weights between 0 and 1, at most four decimals) or `2:4` (two of every four
 * consecutive columns are kept; n < m ≤ 64).
 *
 * @throws AppError `invalid_request`, param `pattern`
 */
export function parsePattern(text: string): SparsityPattern {
  const pattern = tryParsePattern(text)
  if (typeof pattern === 'object') return pattern
  throw new AppError('invalid_request', `${patternError(text)}.`, { param: 'pattern' })
}

/** Returns why {@link parsePattern} rejects a text, as a sentence without its full stop; undefined when it does not. */
export function patternError(text: string): string | undefined {
  const result = tryParsePattern(text)
  return typeof result === 'object' ? undefined : `'${text}' is not a sparsity pattern: ${result}`
}

/** Returns the pattern, or what is wrong with the text. */
function tryParsePattern(text: string): SparsityPattern | string {
  if (/^-?\d+(\.\d{1,4})?$/.test(text)) {
    const ratio = Number(text)
    if (ratio > 0 && ratio < 1) return { kind: 'ratio', ratio }
    return 'the fraction of pruned weights must be above 0 and below 1'
  }
  const [, n, m] = /^([1-9]\d{0,2}):([1-9]\d{0,2})$/.exec(text) ?? []
  if (n === undefined) {
    return "expected the fraction of pruned weights with at most four decimals, like '0.5', or n of every m weights to keep, like '2:4'"
  }
  const keep = Number(n)
  const group = Number(m)
  if (keep >= group) return 'n:m keeps n of every m weights, so n must be less than m'
  if (group > MAX_GROUP) return `m of n:m is at most ${MAX_GROUP}`
  return { kind: 'n:m', keep, group }
}

/**
 * Returns how many weights a mask of `pattern` keeps, and in which runs. A ratio prunes `⌊size · ratio⌋` weights of each
 * row or of the matrix; n:m ignores `scope` and always works along the columns.
 *
 * @throws AppError `invalid_request` when the columns are not a multiple of m
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
        `${cols} columns are not a multiple of ${pattern.group}: the pattern ${pattern.keep}:${pattern.group} does not fit.`,
        { param: 'pattern' },
      )
    }
    return { groups: rows * (cols / pattern.group), size: pattern.group, kept: pattern.keep }
  }
  const [groups, size] = scope === 'row' ? [rows, cols] : [1, rows * cols]
  return { groups, size, kept: size - Math.floor(size * pattern.ratio) }
}

import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { keptCounts, type MaskScope, type SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { keepHighest } from './select-kept.ts'
import type { LinearChoice, LinearProblem, PruneRule } from './prune-rule.ts'
import { inverseFactor, subtractRows } from './triangular-factor.ts'

/** Columns of a block. The error of a block is passed on to later columns at once. */
const BLOCK_COLUMNS = 128
/** Columns after a block that are updated at a time, so that their part of 128 rows of the factor stays in the cache. */
const UPDATE_COLUMNS = 256
/** Fraction of the mean diagonal of the second moment that is added to its diagonal. */
const DAMPING = 0.01

const COMMON_PROPERTIES = { needs: ['second_moment'], changesWeights: true, choose } as const

/** SparseGPT on the newest datasets only. It equals the published method for n:m and with the scope `matrix`. */
export const sparseGpt: PruneRule = {
  ...COMMON_PROPERTIES,
  name: 'sparsegpt',
  summary: 'kept weights compensate, newest text (Frantar 2023)',
  datasets: 'newest',
}

/** SparseGPT from the dense weights, on the second moment accumulated over all datasets. */
export const continualSparseGpt: PruneRule = {
  ...COMMON_PROPERTIES,
  name: 'continual-sparsegpt',
  summary: 'kept weights compensate, all text (Frantar 2023)',
  datasets: 'accumulated',
}

/** The state of a linear while it is pruned. */
interface PruningState {
  rows: number
  cols: number
  /** `[rows, cols]`; updated as columns are pruned. */
  weights: Float64Array
  /** Upper factor `U` of the inverse second moment, `Uᵀ U = H⁻¹`, `[cols, cols]`. */
  factor: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
}

/**
 * Prunes one linear by SparseGPT (Frantar and Alistarh 2023).
 *
 * It goes through the columns in order, in blocks of 128. In each block it prunes the weights with the lowest
 * `(w / U_jj)²`; for n:m it selects them in each group when it reaches the group's first column. Later weights of the row
 * are updated to compensate for a pruned one.
 *
 * Weights are compared within a block: over all its rows with the scope `matrix`, as published, or within each row with the
 * scope `row`. Each block prunes as many as needed for the row or matrix to keep exactly what the pattern says.
 */
function choose(problem: LinearProblem, pattern: SparsityPattern, scope: MaskScope): LinearChoice {
  const { rows, cols } = problem
  const { factor, dead } = factorInverseMoment(problem)
  const weights = Float64Array.from(problem.weights)
  for (const col of dead) for (let at = col; at < weights.length; at += cols) weights[at] = 0
  const work: PruningState = { rows, cols, weights, factor, bits: new Uint8Array(rows * rowBytes(cols)) }
  // Throws if the columns are not a multiple of the group size.
  keptCounts(pattern, scope, rows, cols)
  // A block has whole groups of n:m.
  const width = pattern.kind === 'n:m' ? BLOCK_COLUMNS - (BLOCK_COLUMNS % pattern.group) : BLOCK_COLUMNS
  for (let begin = 0; begin < cols; begin += width) {
    const end = Math.min(begin + width, cols)
    if (pattern.kind === 'ratio') selectBlock(work, begin, end, pattern.ratio, scope)
    pruneBlock(work, begin, end, pattern)
  }
  requireFinite(weights)
  return { bits: work.bits, weights: Float32Array.from(weights) }
}

/** Computes the factor `U` of the damped mean second moment, and finds the inputs that were always zero (`dead`). */
function factorInverseMoment({ cols, tokens, statistic }: LinearProblem): {
  factor: Float64Array
  dead: number[]
} {
  const triangle = statistic('second_moment')
  const moment = new Float64Array(cols * cols)
  const dead: number[] = []
  let trace = 0
  for (let row = 0, from = 0; row < cols; row++) {
    // The lower triangle is factored. By symmetry its column is a row of the stored upper triangle.
    for (let col = row; col < cols; col++, from++)
      moment[col * cols + row] = (triangle[from] as number) / tokens
    const at = row * cols + row
    if (moment[at] === 0) {
      dead.push(row)
      moment[at] = 1
    }
    trace += moment[at] as number
  }
  const damping = (DAMPING * trace) / cols
  for (let at = 0; at < moment.length; at += cols + 1) moment[at] = (moment[at] as number) + damping
  return { factor: inverseFactor(moment, cols), dead }
}

/** Selects the weights that columns `[begin, end)` keep for a ratio, from their current values. */
function selectBlock(
  { rows, cols, weights, factor, bits }: PruningState,
  begin: number,
  end: number,
  ratio: number,
  scope: MaskScope,
): void {
  const width = end - begin
  const score = new Float64Array(rows * width)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = begin; col < end; col++, i++)
      score[i] = ((weights[row * cols + col] as number) / (factor[col * (cols + 1)] as number)) ** 2
  }
  const groups = scope === 'row' ? rows : 1
  const height = rows / groups
  // The number pruned up to a column is rounded, not that of each block, so that the sum is exactly that of the pattern.
  const pruned = Math.floor(height * end * ratio) - Math.floor(height * begin * ratio)
  const chosen = new Uint8Array(rows * rowBytes(width))
  const choice = { score, cols: width, bits: chosen, scratch: new Float64Array(height * width) }
  for (let first = 0; first < score.length; first += height * width)
    keepHighest(choice, first, first + height * width, pruned)
  for (let row = 0; row < rows; row++) {
    // A block begins at a whole byte.
    bits.set(
      chosen.subarray(row * rowBytes(width), (row + 1) * rowBytes(width)),
      row * rowBytes(cols) + begin / 8,
    )
  }
}

/**
 * Prunes columns `[begin, end)` one by one. Each pruned weight is compensated by later weights of its row: within the block
 * at once, after it when the block is done.
 */
function pruneBlock(work: PruningState, begin: number, end: number, pattern: SparsityPattern): void {
  const { rows, cols, weights, factor, bits } = work
  const width = end - begin
  const errors = new Float64Array(rows * width)
  const costs = new Float64Array(pattern.kind === 'n:m' ? pattern.group : 0)
  const own = { values: weights, stride: cols }
  const upper = { values: factor, stride: cols }
  for (let row = 0; row < rows; row++) {
    const rowBits = row * rowBytes(cols)
    for (let col = begin; col < end; col++) {
      if (pattern.kind === 'n:m' && (col - begin) % pattern.group === 0)
        selectGroup(work, row, col, pattern, costs)
      if ((((bits[rowBits + (col >> 3)] as number) >> (col & 7)) & 1) === 1) continue
      const at = row * cols
      const error = (weights[at + col] as number) / (factor[col * (cols + 1)] as number)
      for (let later = col + 1; later < end; later++)
        weights[at + later] = (weights[at + later] as number) - error * (factor[col * cols + later] as number)
      weights[at + col] = 0
      errors[row * width + col - begin] = error
    }
  }
  for (let from = end; from < cols; from += UPDATE_COLUMNS) {
    const columns = { from, to: Math.min(from + UPDATE_COLUMNS, cols) }
    for (let row = 0; row < rows; row++) {
      const coefficients = { values: errors, at: row * width, step: 1, begin, end }
      subtractRows(own, row, upper, coefficients, columns)
    }
  }
}

/** Keeps the n of m weights from column `first` on whose pruning would cost most; of equal ones the last. */
function selectGroup(
  { cols, weights, factor, bits }: PruningState,
  row: number,
  first: number,
  { keep, group }: { keep: number; group: number },
  costs: Float64Array,
): void {
  for (let i = 0, col = first; i < group; i++, col++)
    costs[i] = ((weights[row * cols + col] as number) / (factor[col * (cols + 1)] as number)) ** 2
  for (let pruned = 0; pruned < group - keep; pruned++) {
    let lowest = 0
    for (let i = 1; i < group; i++) if ((costs[i] as number) < (costs[lowest] as number)) lowest = i
    costs[lowest] = Infinity
  }
  for (let i = 0, col = first; i < group; i++, col++) {
    if (costs[i] === Infinity) continue
    const at = row * rowBytes(cols) + (col >> 3)
    bits[at] = (bits[at] as number) | (1 << (col & 7))
  }
}

function requireFinite(weights: Float64Array): void {
  // `weight - weight` is NaN for NaN and infinities, else 0.
  let nonFinite = 0
  for (const weight of weights) nonFinite += weight - weight
  if (nonFinite !== 0)
    throw new RangeError('an updated weight is not finite, so the weights or the statistics are not finite')
}

import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { keptCounts, type MaskScope, type SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { keepHighest } from './select-kept.ts'
import type { LinearChoice, LinearProblem, PruneRule } from './prune-rule.ts'
import { inverseFactor, subtractRows } from './triangular-factor.ts'

/** Columns that are decided together before their error is passed on. */
const BLOCK_COLUMNS = 128
/** Columns after a block that are updated at a time: their part of 128 rows of the factor stays in the cache. */
const UPDATE_COLUMNS = 256
/** Of the mean diagonal of the second moment, added to its diagonal. */
const DAMPING = 0.01

const COMMON_PROPERTIES = { needs: ['second_moment'], changesWeights: true, choose } as const

/** SparseGPT on the newest datasets alone: as published at n:m, and where the scope is the matrix. */
export const sparseGpt: PruneRule = {
  ...COMMON_PROPERTIES,
  name: 'sparsegpt',
  summary: 'kept weights make up for others, newest text (Frantar 2023)',
  datasets: 'newest',
}

/** SparseGPT from the dense weights, on the second moment accumulated over all datasets. */
export const continualSparseGpt: PruneRule = {
  ...COMMON_PROPERTIES,
  name: 'continual-sparsegpt',
  summary: 'kept weights make up for others, all text (Frantar 2023)',
  datasets: 'accumulated',
}

/** A linear that is being pruned. */
interface PruningState {
  rows: number
  cols: number
  /** `[rows, cols]`, changes as columns are pruned. */
  weights: Float64Array
  /** Upper factor `U` of the inverse second moment, `Uᵀ U = H⁻¹`, `[cols, cols]`. */
  factor: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
}

/**
 * SparseGPT (Frantar and Alistarh 2023): columns in order, by blocks of 128. In a block the weights with the lowest
 * `(w / U_jj)²` go, of n:m those of each group when its first column is reached; what a pruned weight did is made up
 * for by the weights of its row after it.
 *
 * The competition is inside the block: over all its rows, as published, where the scope is the matrix; row by row
 * where it is the row. So many go in each block that every row or the matrix keeps exactly what its pattern says.
 */
function choose(problem: LinearProblem, pattern: SparsityPattern, scope: MaskScope): LinearChoice {
  const { rows, cols } = problem
  const { factor, dead } = factorInverseMoment(problem)
  const weights = Float64Array.from(problem.weights)
  for (const col of dead) for (let at = col; at < weights.length; at += cols) weights[at] = 0
  const work: PruningState = { rows, cols, weights, factor, bits: new Uint8Array(rows * rowBytes(cols)) }
  // Throws where the columns are not whole groups.
  keptCounts(pattern, scope, rows, cols)
  // Whole groups of n:m to a block.
  const width = pattern.kind === 'n:m' ? BLOCK_COLUMNS - (BLOCK_COLUMNS % pattern.group) : BLOCK_COLUMNS
  for (let begin = 0; begin < cols; begin += width) {
    const end = Math.min(begin + width, cols)
    if (pattern.kind === 'ratio') selectBlock(work, begin, end, pattern.ratio, scope)
    pruneBlock(work, begin, end, pattern)
  }
  requireFinite(weights)
  return { bits: work.bits, weights: Float32Array.from(weights) }
}

/** The factor `U` of the damped mean second moment, and the inputs that never were anything but zero. */
function factorInverseMoment({ cols, tokens, statistic }: LinearProblem): {
  factor: Float64Array
  dead: number[]
} {
  const triangle = statistic('second_moment')
  const moment = new Float64Array(cols * cols)
  const dead: number[] = []
  let trace = 0
  for (let row = 0, from = 0; row < cols; row++) {
    // Symmetric: the row of the upper triangle is the column of the lower one, which is what is factored.
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

/** Chooses what the columns `[begin, end)` keep of a ratio, from their weights as they are now. */
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
  // What is pruned up to a column is rounded, not what each block prunes: the sum is then that of the pattern.
  const pruned = Math.floor(height * end * ratio) - Math.floor(height * begin * ratio)
  const chosen = new Uint8Array(rows * rowBytes(width))
  const choice = { score, cols: width, bits: chosen, scratch: new Float64Array(height * width) }
  for (let first = 0; first < score.length; first += height * width)
    keepHighest(choice, first, first + height * width, pruned)
  for (let row = 0; row < rows; row++) {
    // Blocks begin at whole bytes.
    bits.set(
      chosen.subarray(row * rowBytes(width), (row + 1) * rowBytes(width)),
      row * rowBytes(cols) + begin / 8,
    )
  }
}

/** Prunes the columns `[begin, end)` one by one, each row making up for what it loses, first inside the block. */
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

/** Keeps the n of the m weights from `first` on whose loss would cost most; of equal ones the last. */
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
  let poison = 0
  for (const weight of weights) poison += weight - weight
  if (poison !== 0) throw new RangeError('an updated weight is not finite: nor are the weights or statistics')
}

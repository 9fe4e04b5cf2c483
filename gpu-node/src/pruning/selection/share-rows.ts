import { countBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { QUANTILES } from '../../model/sensitivities/row-sensitivity.ts'
import type { LinearProblem } from '../methods/prune-rule.ts'
import { createRandom } from '../../platform/seeded-random.ts'
import { selectKept } from '../methods/select-kept.ts'

/**
 * To what power a row's sensitivity counts within its linear. Its whole, 1, is what an error costs the dense model to second
 * order; the pruned model is not near it, and with less masks are better (`docs/measurements/tried.md`).
 */
const SENSITIVITY_POWER = 0.5
/** A row costs at least this part of the linear's mean: one that its text never used, another text may. */
const MIN_RELATIVE_COST = 1 / 1000

/** So many weights tell how a linear's are spread. */
const MAX_SAMPLED_WEIGHTS = 2 ** 18

/**
 * How many weights each row keeps when the rows of a linear share its ratio: those that are worth the most are kept, wherever
 * they are. A weight is worth the error that pruning it makes, `w² Σx²`, times what an error of its row costs.
 *
 * @param sensitivity of the linear, `[rows]`, see {@link RowSensitivity}
 * @returns `[rows]`; together as many as the pattern keeps of the matrix
 * @throws RangeError weights or statistics are not finite
 */
export function shareRows(
  { rows, cols, weights, statistic }: Pick<LinearProblem, 'rows' | 'cols' | 'weights' | 'statistic'>,
  pattern: SparsityPattern,
  sensitivity: Float32Array,
): Uint32Array {
  const squareNorm = statistic('square_norm')
  const costs = rowCosts(sensitivity)
  const worth = new Float64Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    const cost = costs[row] as number
    for (let col = 0; col < cols; col++, i++)
      worth[i] = cost * (weights[i] as number) ** 2 * (squareNorm[col] as number)
  }
  const bits = selectKept(worth, rows, cols, pattern, 'matrix')
  const width = rowBytes(cols)
  return Uint32Array.from({ length: rows }, (_, row) => countBits(bits, row * width, (row + 1) * width))
}

/**
 * How the worth of a linear's weights is spread, for ratios that linears share: natural logarithms of the worth that
 * `k / QUANTILES` of them are below, `k` from 1. Of large linears a seeded sample tells.
 *
 * @param weights `[rows, cols]`
 * @param squareNorm mean of `x²` over tokens, `[cols]`
 * @param sensitivity as of {@link shareRows}
 */
export function worthQuantiles(
  [rows, cols]: readonly [rows: number, cols: number],
  weights: Float32Array,
  squareNorm: Float32Array,
  sensitivity: Float32Array,
): number[] {
  const costs = rowCosts(sensitivity)
  const count = rows * cols
  const random = createRandom(0)
  const isWhole = count <= MAX_SAMPLED_WEIGHTS
  const worth = new Float64Array(isWhole ? count : MAX_SAMPLED_WEIGHTS)
  for (let i = 0; i < worth.length; i++) {
    const at = isWhole ? i : Math.floor(random() * count)
    const row = Math.floor(at / cols)
    worth[i] = (costs[row] as number) * (weights[at] as number) ** 2 * (squareNorm[at - row * cols] as number)
  }
  worth.sort()
  return Array.from({ length: QUANTILES - 1 }, (_, k) => {
    const at = worth[Math.floor(((k + 1) * worth.length) / QUANTILES)] as number
    return Math.log(Math.max(at, Number.MIN_VALUE))
  })
}

/** What errors of rows are taken to cost: `mean · (s / mean)^POWER`. */
function rowCosts(sensitivity: Float32Array): Float64Array {
  // Where no error costs anything, none costs more than another.
  const mean = sensitivity.reduce((sum, value) => sum + value, 0) / sensitivity.length || 1e-300
  return Float64Array.from(
    sensitivity,
    (value) => mean * Math.max(value / mean, MIN_RELATIVE_COST) ** SENSITIVITY_POWER,
  )
}

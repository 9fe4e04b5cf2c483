import { countBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { QUANTILES } from '../../model/sensitivities/row-sensitivity.ts'
import type { LinearProblem } from '../methods/prune-rule.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { createRandom } from '../../platform/seeded-random.ts'
import { selectKept } from '../methods/select-kept.ts'

/**
 * Power of a row's sensitivity within its linear. With a power of 1 the cost of an error is exact for the dense model to second
 * order. The pruned model differs too much from it, and masks with a smaller power are better
 * (`docs/measurements/tried.md`).
 */
const SENSITIVITY_POWER = 0.5
/** Minimum cost of a row relative to the linear's mean, because other text may use rows that the measured text did not. */
const MIN_RELATIVE_COST = 1 / 1000

/** Maximum weights of a linear that are sampled for quantiles. */
const MAX_SAMPLED_WEIGHTS = 2 ** 18

/**
 * Computes how many weights each row keeps when the rows of a linear share its ratio: the weights with the highest worth are
 * kept, in whichever row they are. The worth of a weight is the error of pruning it, `w² Σx²`, times the cost of an error of
 * its row.
 *
 * @param sensitivity sensitivity of the linear's rows, `[rows]`, see `RowSensitivity`
 * @returns `[rows]`; the sum is the number that the pattern keeps of the matrix
 * @throws RangeError when weights or statistics are not finite
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
  freeMemory(worth)
  const width = rowBytes(cols)
  return Uint32Array.from({ length: rows }, (_, row) => countBits(bits, row * width, (row + 1) * width))
}

/**
 * Returns quantiles of the worth of a linear's weights (see {@link shareRows}), as natural logarithms: entry `k - 1` is the
 * `k / QUANTILES` quantile. For large linears they are of a seeded sample.
 *
 * @param weights `[rows, cols]`
 * @param squareNorm mean of `x²` over tokens, `[cols]`
 * @param sensitivity as in {@link shareRows}
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

/** Returns the cost of an error of each row, `[rows]` f64: `mean · (s / mean)^SENSITIVITY_POWER`. */
function rowCosts(sensitivity: Float32Array): Float64Array {
  // If all sensitivities are 0, a tiny mean makes all costs equal without dividing by zero.
  const mean = sensitivity.reduce((sum, value) => sum + value, 0) / sensitivity.length || 1e-300
  return Float64Array.from(
    sensitivity,
    (value) => mean * Math.max(value / mean, MIN_RELATIVE_COST) ** SENSITIVITY_POWER,
  )
}

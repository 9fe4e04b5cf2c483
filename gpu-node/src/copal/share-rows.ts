import { countBits, rowBytes } from '@copal/shared/mask/bits.ts'
import type { SparsityPattern } from '@copal/shared/mask/pattern.ts'
import { QUANTILES } from '../model/row-sensitivity.ts'
import type { LinearProblem } from './methods/rule.ts'
import { createRandom } from './sample.ts'
import { selectKept } from './select.ts'

/**
 * To what power a row's sensitivity counts within its linear. Its whole, 1, is what an error costs the dense model to second
 * order; the pruned model is not near it, and with less masks are better (`docs/measurements/tried.md`).
 */
const POWER = 0.5
/** A row costs at least this part of the linear's mean: one that its text never used, another text may. */
const LEAST = 1 / 1000

/** So many weights tell how a linear's are spread. */
const SAMPLED_WEIGHTS = 2 ** 18

/** A linear of which it is asked what its weights are worth. */
interface ValuedLinear {
  rows: number
  cols: number
  /** `[rows, cols]` */
  weights: Float32Array
  /** `Σ x²` or its mean over tokens, `[cols]`. */
  squareNorm: ArrayLike<number>
  /** What an error at each output costs, `[rows]`, see {@link RowSensitivity}. */
  sensitivity: Float32Array
}

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
  const worth = worthOf({ rows, cols, weights, squareNorm: statistic('square_norm'), sensitivity })
  const all = Float64Array.from({ length: rows * cols }, (_, i) => worth(i))
  const bits = selectKept(all, rows, cols, pattern, 'matrix')
  const width = rowBytes(cols)
  return Uint32Array.from({ length: rows }, (_, row) => countBits(bits, row * width, (row + 1) * width))
}

/**
 * How the worth of a linear's weights is spread, for ratios that linears share: natural logarithms of the worth that
 * `k / QUANTILES` of them are below, `k` from 1. Of large linears a seeded sample tells.
 */
export function worthQuantiles(linear: ValuedLinear): number[] {
  const count = linear.rows * linear.cols
  const worth = worthOf(linear)
  const random = createRandom(0)
  const sampled =
    count <= SAMPLED_WEIGHTS
      ? Float64Array.from({ length: count }, (_, i) => worth(i))
      : Float64Array.from({ length: SAMPLED_WEIGHTS }, () => worth(Math.floor(random() * count)))
  sampled.sort()
  return Array.from({ length: QUANTILES - 1 }, (_, k) => {
    const at = sampled[Math.floor(((k + 1) * sampled.length) / QUANTILES)] as number
    return Math.log(Math.max(at, Number.MIN_VALUE))
  })
}

/** What the weight at a flat index is worth. */
function worthOf({ rows, cols, weights, squareNorm, sensitivity }: ValuedLinear): (index: number) => number {
  const mean = sensitivity.reduce((sum, value) => sum + value, 0) / rows
  const ofRow = Float64Array.from(
    sensitivity,
    (value) => mean * Math.max(value / (mean || 1), LEAST) ** POWER,
  )
  return (index) => {
    const row = Math.floor(index / cols)
    return (
      (ofRow[row] as number) * (weights[index] as number) ** 2 * (squareNorm[index - row * cols] as number)
    )
  }
}

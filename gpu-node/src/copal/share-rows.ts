import { countBits, rowBytes } from '@copal/shared/mask/bits.ts'
import type { SparsityPattern } from '@copal/shared/mask/pattern.ts'
import type { LinearProblem } from './methods/rule.ts'
import { selectKept } from './select.ts'

/**
 * To what power a row's sensitivity counts. Its whole, 1, is what an error costs the dense model to second order; the pruned
 * model is not near it, and with less masks are better (`docs/measurements/tried.md`).
 */
const POWER = 0.5
/** A row costs at least this part of the linear's mean: one that its text never used, another text may. */
const LEAST = 1 / 1000

/**
 * How many weights each row keeps when the rows of a linear share its ratio: those that are worth the most are kept, wherever
 * they are, and a weight is worth `s^POWER · w² Σx²`, where `s` is what an error of its row costs the model.
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
  const norm = Float64Array.from(statistic('square_norm'), Math.sqrt)
  const mean = sensitivity.reduce((sum, value) => sum + value, 0) / rows
  const worth = new Float64Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    const ofRow = Math.max(sensitivity[row] as number, LEAST * mean) ** (POWER / 2)
    for (let col = 0; col < cols; col++, i++)
      worth[i] = ofRow * Math.abs(weights[i] as number) * (norm[col] as number)
  }
  const bits = selectKept(worth, rows, cols, pattern, 'matrix')
  const width = rowBytes(cols)
  return Uint32Array.from({ length: rows }, (_, row) => countBits(bits, row * width, (row + 1) * width))
}

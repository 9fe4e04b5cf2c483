import { scoreRule } from './score-rule.ts'

/** Power of the activation norm: the published choice. */
const ACTIVATION_POWER = 0.5

/**
 * RIA, relative importance and activations: `(|W| / Σ_rows |W| + |W| / Σ_cols |W|) · ‖x‖^½` with `‖x‖ = √(Σ x²)`, that is, the
 * share of a weight in the sums of its column and of its row (Zhang et al., "Plug-and-Play", ICLR 2024, with its power of ½
 * and without its permutation of channels). The norm is accumulated over all datasets.
 */
export const continualRia = scoreRule({
  name: 'continual-ria',
  summary: 'share of row and column × √norm, all text (RIA, Zhang 2024)',
  datasets: 'accumulated',
  needs: ['square_norm'],
  score({ rows, cols, weights, statistic }) {
    const rowSum = new Float64Array(rows)
    const colSum = new Float64Array(cols)
    for (let row = 0, i = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++, i++) {
        const size = Math.abs(weights[i] as number)
        rowSum[row] = (rowSum[row] as number) + size
        colSum[col] = (colSum[col] as number) + size
      }
    }
    const activation = Float64Array.from(
      statistic('square_norm'),
      (sum) => Math.sqrt(sum) ** ACTIVATION_POWER,
    )
    const scores = new Float64Array(rows * cols)
    for (let row = 0, i = 0; row < rows; row++) {
      for (let col = 0; col < cols; col++, i++) {
        const size = Math.abs(weights[i] as number)
        // If a sum is zero the weight is too, and its share would be 0 / 0.
        if (size === 0) continue
        scores[i] =
          (size / (colSum[col] as number) + size / (rowSum[row] as number)) * (activation[col] as number)
      }
    }
    return scores
  },
})

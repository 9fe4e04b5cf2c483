import { scoreRule } from './score-rule.ts'

/** How much the activations count: the published choice. */
const ACTIVATION_POWER = 0.5

/**
 * Relative importance and activations, `(|W| / Σ_rows |W| + |W| / Σ_cols |W|) · ‖x‖^½` with `‖x‖ = √(Σ x²)`: what
 * share a weight has of what leaves its input and of what enters its output (Zhang et al., "Plug-and-Play", ICLR
 * 2024, with its power of ½ and without its permutation of channels). The norm is accumulated over all datasets.
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
        // A sum is zero only where the weight is: it has a share of nothing.
        if (size === 0) continue
        scores[i] =
          (size / (colSum[col] as number) + size / (rowSum[row] as number)) * (activation[col] as number)
      }
    }
    return scores
  },
})

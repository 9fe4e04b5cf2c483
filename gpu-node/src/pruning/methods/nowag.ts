import { scoreRule } from './score-rule.ts'

/** Prevents division by zero for an all-zero column or row; the value of the published code. */
const EPSILON = 1e-5

/**
 * NoWag-P: importance `W̄² · Σ x²`, where `W̄` is `W` with each column and then each row divided by its Euclidean norm (Liu et
 * al. 2025, arXiv 2504.14569, algorithm 1). The square norm is accumulated over all datasets. The method is published for
 * whole matrices and n:m. With the scope `row` the norm of the row has no effect.
 */
export const continualNowag = scoreRule({
  name: 'continual-nowag',
  summary: 'normalised weight² × norm², all text (NoWag-P, Liu 2025)',
  datasets: 'accumulated',
  needs: ['square_norm'],
  score({ rows, cols, weights, statistic }) {
    const squareNorm = statistic('square_norm')
    const colNorm = new Float64Array(cols)
    for (let i = 0, col = 0; i < weights.length; i++) {
      colNorm[col] = (colNorm[col] as number) + (weights[i] as number) ** 2
      if (++col === cols) col = 0
    }
    for (let col = 0; col < cols; col++) colNorm[col] = Math.sqrt(colNorm[col] as number) + EPSILON
    const scores = new Float64Array(rows * cols)
    for (let row = 0; row < rows; row++) {
      let sum = 0
      for (let col = 0, i = row * cols; col < cols; col++, i++)
        sum += ((weights[i] as number) / (colNorm[col] as number)) ** 2
      const rowNorm = Math.sqrt(sum) + EPSILON
      for (let col = 0, i = row * cols; col < cols; col++, i++) {
        const normalised = (weights[i] as number) / (colNorm[col] as number) / rowNorm
        scores[i] = normalised ** 2 * (squareNorm[col] as number)
      }
    }
    return scores
  },
})

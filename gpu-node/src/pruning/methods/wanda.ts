import type { LinearProblem } from './prune-rule.ts'
import { scoreRule } from './score-rule.ts'

/** Wanda: importance `|W| · √(Σ x²)`, on the newest datasets only, as published (Sun et al. 2023). */
export const wanda = scoreRule({
  name: 'wanda',
  summary: 'weight × input norm, newest text (Wanda, Sun et al. 2023)',
  datasets: 'newest',
  needs: ['square_norm'],
  score,
})

/** Wanda with the norm accumulated over all datasets. */
export const continualWanda = scoreRule({
  name: 'continual-wanda',
  summary: 'weight × input norm, all text (Wanda, Sun et al. 2023)',
  datasets: 'accumulated',
  needs: ['square_norm'],
  score,
})

function score({ rows, cols, weights, statistic }: LinearProblem): Float64Array<ArrayBuffer> {
  const norm = Float64Array.from(statistic('square_norm'), Math.sqrt)
  const scores = new Float64Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++)
      scores[i] = Math.abs(weights[i] as number) * (norm[col] as number)
  }
  return scores
}

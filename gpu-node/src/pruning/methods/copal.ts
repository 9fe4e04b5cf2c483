import { scoreRule } from './score-rule.ts'

/**
 * COPAL: importance `W* = S ⊙ |W|` with the sensitivity `S = Σ |y||x|ᵀ` accumulated over all datasets and always the dense
 * `W` (Malla et al. 2024, arXiv 2405.02347, equation of `W*`).
 */
export const copal = scoreRule({
  name: 'copal',
  summary: 'weight × sensitivity, all text (COPAL, Malla et al. 2024)',
  datasets: 'accumulated',
  needs: ['sensitivity'],
  score({ weights, statistic }) {
    const sensitivity = statistic('sensitivity')
    const scores = new Float64Array(weights.length)
    for (let i = 0; i < scores.length; i++)
      scores[i] = (sensitivity[i] as number) * Math.abs(weights[i] as number)
    return scores
  },
})

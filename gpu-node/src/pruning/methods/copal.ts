import { scoreRule } from './score-rule.ts'

/** `S ⊙ |W|`, `S = Σ |y||x|ᵀ` accumulated over all datasets, `W` always dense (COPAL, equation of `W*`). */
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

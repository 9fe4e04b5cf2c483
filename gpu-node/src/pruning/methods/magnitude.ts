import { scoreRule } from './score-rule.ts'

/** Magnitude pruning: importance `|W|`. It needs no data. */
export const magnitude = scoreRule({
  name: 'magnitude',
  summary: 'largest weights; needs no text',
  datasets: 'none',
  needs: [],
  score: ({ weights }) => {
    // `map` takes three times as long.
    const scores = new Float64Array(weights.length)
    for (let i = 0; i < weights.length; i++) scores[i] = Math.abs(weights[i] as number)
    return scores
  },
})

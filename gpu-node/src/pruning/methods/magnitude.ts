import { scoreRule } from './score-rule.ts'

/** Magnitude pruning: importance `|W|`. It needs no data. */
export const magnitude = scoreRule({
  name: 'magnitude',
  summary: 'largest weights; needs no text',
  datasets: 'none',
  needs: [],
  score: ({ weights }) => Float64Array.from(weights, Math.abs),
})

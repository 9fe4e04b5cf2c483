import { scoreRule } from './score-rule.ts'

/** Magnitude pruning: importance `|W|`. It needs no data. */
export const magnitude = scoreRule({
  name: 'magnitude',
  summary: 'largest weights; needs no text',
  datasets: 'none',
  needs: [],
  // `from` with a function takes ten times as long.
  score: ({ weights }) => new Float64Array(weights).map(Math.abs),
})

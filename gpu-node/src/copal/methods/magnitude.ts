import { scoreRule } from './scored.ts'

/** `|W|`: needs no data. */
export const magnitude = scoreRule({
  name: 'magnitude',
  summary: 'the largest weights stay; needs no text',
  datasets: 'none',
  needs: [],
  score: ({ weights }) => Float64Array.from(weights, Math.abs),
})

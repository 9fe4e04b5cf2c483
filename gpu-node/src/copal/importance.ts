import type { StatisticName } from './block-statistics.ts'

/** A numeric vector in memory; scores are computed in f64 whatever the statistics are kept in. */
export type Values = Float32Array | Float64Array

/** One linear as scoring sees it: dense weights `[rows, cols]` row-major and its accumulated statistics. */
export interface ScoredLinear {
  rows: number
  cols: number
  weights: Values
  /** The accumulated statistic; throws when the method did not declare that it needs it. */
  statistic: (name: StatisticName) => Float64Array
}

/** `|W|`: needs no data. */
export function magnitude({ weights }: ScoredLinear): Float64Array {
  const score = new Float64Array(weights.length)
  for (let i = 0; i < score.length; i++) score[i] = Math.abs(weights[i] as number)
  return score
}

/** `|W| · √(Σ x²)` per input (Sun et al. 2023), on the newest datasets or accumulated over all. */
export function wanda({ rows, cols, weights, statistic }: ScoredLinear): Float64Array {
  const norm = Float64Array.from(statistic('square_norm'), Math.sqrt)
  const score = new Float64Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++)
      score[i] = Math.abs(weights[i] as number) * (norm[col] as number)
  }
  return score
}

/** `S ⊙ |W|`, `S = Σ |y||x|ᵀ` accumulated over all datasets, `W` always dense (COPAL, equation of `W*`). */
export function copal({ weights, statistic }: ScoredLinear): Float64Array {
  const sensitivity = statistic('sensitivity')
  const score = new Float64Array(weights.length)
  for (let i = 0; i < score.length; i++)
    score[i] = (sensitivity[i] as number) * Math.abs(weights[i] as number)
  return score
}

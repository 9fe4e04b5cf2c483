import { randomDraw } from '../../engine/random-draw.ts'

/** Mean of paired differences with a 95 % interval. */
export interface Interval {
  mean: number
  low: number
  high: number
}

const LEVEL = 0.95

/**
 * A 95 % percentile interval for the mean of paired differences (Efron and Tibshirani 1993): windows are drawn
 * with replacement, as many as there are, and the interval holds the middle 95 % of the resamples' means.
 *
 * @returns a function of differences, one a window. All calls draw the same windows for the same count, so that
 * rows of one comparison are alike, and the same seed gives the same interval.
 */
export function createPairedBootstrap({
  resamples,
  seed,
}: {
  resamples: number
  seed: number
}): (differences: readonly number[]) => Interval {
  const draws = new Map<number, Uint32Array>()
  const drawsOf = (count: number): Uint32Array => {
    const known = draws.get(count)
    if (known) return known
    const drawn = new Uint32Array(resamples * count)
    for (let i = 0; i < drawn.length; i++) drawn[i] = Math.floor(randomDraw(seed, i) * count)
    draws.set(count, drawn)
    return drawn
  }
  return (differences) => {
    const count = differences.length
    if (count === 0) throw new RangeError('no window to draw from')
    const values = Float64Array.from(differences)
    const drawn = drawsOf(count)
    const means = new Float64Array(resamples)
    for (let resample = 0; resample < resamples; resample++) {
      let sum = 0
      for (let i = resample * count; i < (resample + 1) * count; i++)
        sum += values[drawn[i] as number] as number
      means[resample] = sum / count
    }
    means.sort()
    return {
      mean: values.reduce((sum, value) => sum + value, 0) / count,
      low: quantile(means, (1 - LEVEL) / 2),
      high: quantile(means, (1 + LEVEL) / 2),
    }
  }
}

/** Linear interpolation between the two order statistics around `p` of a sorted array. */
function quantile(sorted: Float64Array, p: number): number {
  const position = p * (sorted.length - 1)
  const below = Math.floor(position)
  const low = sorted[below] ?? Number.NaN
  const high = sorted[below + 1] ?? low
  return low + (position - below) * (high - low)
}

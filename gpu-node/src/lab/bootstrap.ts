import { randomDraw } from '../engine/random-draw.ts'

/** A figure with a 95 % interval. */
export interface Interval {
  mean: number
  low: number
  high: number
}

/** A figure whose interval is not known where there are too few windows to tell. */
export type Estimate = Interval | { mean: number; low: null; high: null }

/**
 * Fewer windows give no interval: resamples of one window are all alike, and of five that all differ the same way chance
 * is still to blame in 2 · 2⁻⁵ of all cases, more than the 5 % that an interval leaves out.
 */
export const LEAST_WINDOWS = 6

/** How sure figures are to be; stated beside them. */
export const BOOTSTRAP = { resamples: 10_000, seed: 0 }

const LEVEL = 0.95

/**
 * The windows that each resample draws, with replacement, as many as there are.
 *
 * @returns `[resamples, count]`, each in `0 … count - 1`
 */
export function drawWindows(
  count: number,
  { resamples, seed }: { resamples: number; seed: number },
): Uint32Array {
  const drawn = new Uint32Array(resamples * count)
  for (let i = 0; i < drawn.length; i++) drawn[i] = Math.floor(randomDraw(seed, i) * count)
  return drawn
}

/** The mean of `values`, one a window, in each resample. */
export function resampledMeans(values: readonly number[], drawn: Uint32Array): Float64Array {
  const windows = Float64Array.from(values)
  const count = windows.length
  const means = new Float64Array(drawn.length / count)
  for (let resample = 0; resample < means.length; resample++) {
    let sum = 0
    for (let i = resample * count; i < (resample + 1) * count; i++)
      sum += windows[drawn[i] as number] as number
    means[resample] = sum / count
  }
  return means
}

/** The middle 95 % of what the resamples gave, around the figure itself; sorts `resampled`. */
export function percentileInterval(mean: number, resampled: Float64Array): Interval {
  resampled.sort()
  return {
    mean,
    low: quantile(resampled, (1 - LEVEL) / 2),
    high: quantile(resampled, (1 + LEVEL) / 2),
  }
}

/**
 * A 95 % percentile interval for the mean of paired differences (Efron and Tibshirani 1993): windows are drawn
 * with replacement, as many as there are, and the interval holds the middle 95 % of the resamples' means.
 *
 * @returns a function of differences, one a window; of fewer than {@link LEAST_WINDOWS} it gives the mean alone. All
 * calls draw the same windows for the same count, so that rows of one comparison are alike, and the same seed gives the
 * same interval.
 */
export function createPairedBootstrap(options: {
  resamples: number
  seed: number
}): (differences: readonly number[]) => Estimate {
  const draws = new Map<number, Uint32Array>()
  return (differences) => {
    const count = differences.length
    if (count === 0) throw new RangeError('no window to draw from')
    const mean = differences.reduce((sum, value) => sum + value, 0) / count
    if (count < LEAST_WINDOWS) return { mean, low: null, high: null }
    const drawn = draws.get(count) ?? drawWindows(count, options)
    draws.set(count, drawn)
    return percentileInterval(mean, resampledMeans(differences, drawn))
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

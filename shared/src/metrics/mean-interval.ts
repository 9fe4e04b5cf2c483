import { studentQuantile } from './student-t.ts'

/** Sums over independent values, which add up in any order. */
export interface Moments {
  count: number
  sum: number
  /** Sum of the squares. */
  squares: number
}

/** A mean with the bounds of its two-sided confidence interval. */
export interface MeanInterval {
  mean: number
  lower: number
  upper: number
}

/** Fewest values for bounds: with fewer, Student's interval is several times as wide as what it estimates. */
const MIN_INTERVAL_COUNT = 5

/**
 * Returns the mean of values and its 95 % interval by Student's t.
 *
 * The values of drift are means of requests, because tokens of one text are not independent: a request is a cluster, each
 * counts once however long it is, and the interval is that of a mean of independent values. A mean over tokens would be a ratio
 * of sums, which a few long texts decide, and its interval would need further sums and hold only for many requests.
 *
 * @returns null for fewer than {@link MIN_INTERVAL_COUNT} values
 */
export function meanInterval({ count, sum, squares }: Moments): MeanInterval | null {
  if (count < MIN_INTERVAL_COUNT) return null
  const mean = sum / count
  // Rounding may leave a small negative number where all values are alike.
  const variance = Math.max(0, squares - sum * mean) / (count - 1)
  const half = quantile(count - 1) * Math.sqrt(variance / count)
  return { mean, lower: mean - half, upper: mean + half }
}

/** Quantiles by degrees of freedom; a series needs thousands of them, mostly the same. */
const quantiles = new Map<number, number>()
/** Above, Student's t is the normal distribution to three digits. */
const MAX_DEGREES = 1_000

function quantile(degrees: number): number {
  const known = Math.min(degrees, MAX_DEGREES)
  const value = quantiles.get(known) ?? studentQuantile(0.975, known)
  quantiles.set(known, value)
  return value
}

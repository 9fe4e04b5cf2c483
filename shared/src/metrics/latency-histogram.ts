/**
 * Upper bounds of the buckets of times to first token, milliseconds, ascending: those that the GenAI semantic conventions of
 * OpenTelemetry advise for `gen_ai.server.time_to_first_token`, and three more for overload. The last bucket has no bound.
 */
export const FIRST_TOKEN_BOUNDS_MS = [
  1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000, 20_000, 40_000, 80_000,
] as const

/** Upper bounds of the buckets of durations of requests, milliseconds: those advised for `gen_ai.server.request.duration`. */
export const DURATION_BOUNDS_MS = [
  10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920,
] as const

/**
 * Estimates a quantile from a histogram. Values are assumed to be spread evenly over their bucket, as Prometheus'
 * `histogram_quantile` does, so the error is at most the width of the bucket. A quantile in the last bucket is its lower bound.
 *
 * @param counts of each bucket, one more than `bounds`: bucket `i` has the values above `bounds[i - 1]` up to `bounds[i]`
 * @param bounds ascending, positive
 * @param probability from 0 to 1
 * @returns null if the histogram is empty
 */
export function histogramQuantile(
  counts: readonly number[],
  bounds: readonly number[],
  probability: number,
): number | null {
  const rank = probability * counts.reduce((sum, count) => sum + count, 0)
  let below = 0
  let lower = 0
  for (const [bucket, count] of counts.entries()) {
    const upper = bounds[bucket] ?? lower
    if (count > 0 && below + count >= rank) return lower + ((upper - lower) * (rank - below)) / count
    below += count
    lower = upper
  }
  return null
}

import type { MaskSeries } from '@copal/shared/wire/admin-series.ts'

/** Returns a series whose gap is `gap` in every period. */
export function maskSeries(
  domain: string,
  version: number,
  periods: number[],
  scored: number[],
  gap: number,
): MaskSeries {
  const all = (value: number) => periods.map(() => value)
  const estimate = (mean: number) => ({ mean: all(mean), lower: all(mean - 0.01), upper: all(mean + 0.01) })
  return {
    domain,
    mask_version: version,
    periods,
    requests: all(10),
    failed: all(1),
    prompt_tokens: all(100),
    completion_tokens: all(50),
    first_token_ms: { p50: all(5), p95: all(9) },
    scored_requests: scored,
    scored_tokens: all(70),
    dense: estimate(2),
    pruned: estimate(2 + gap),
    gap: estimate(gap),
    not_scored: { not_sampled: all(3), too_short: all(0), budget: all(2), evicted: all(0), failed: all(0) },
  }
}

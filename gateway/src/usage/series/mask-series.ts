import { FIRST_TOKEN_BOUNDS_MS, histogramQuantile } from '@copal/shared/metrics/latency-histogram.ts'
import { meanInterval, type Moments } from '@copal/shared/metrics/mean-interval.ts'
import type { MaskSeries } from '@copal/shared/wire/admin-series.ts'
import type { PeriodRange, TrafficPeriod } from '../../storage/db/queries/period-queries.ts'
import { rounded } from './rounded.ts'

/**
 * Returns the series of each domain under each mask.
 *
 * @param rows by domain, mask and start, each once
 */
export function maskSeries(rows: readonly TrafficPeriod[], { width, from }: PeriodRange): MaskSeries[] {
  const groups = Map.groupBy(rows, ({ domain, maskVersion }) => JSON.stringify([domain, maskVersion]))
  return [...groups.values()].flatMap((periods) => {
    const [first] = periods
    if (!first) return []
    const column = (value: (row: TrafficPeriod) => number) => periods.map(value)
    const quantile = (probability: number) =>
      periods.map(({ firstTokenCounts }) =>
        rounded(histogramQuantile(firstTokenCounts, FIRST_TOKEN_BOUNDS_MS, probability), 10),
      )
    return {
      domain: first.domain,
      mask_version: first.maskVersion,
      periods: column(({ start }) => (start - from) / width),
      requests: column((row) => row.requests),
      failed: column((row) => row.failed),
      prompt_tokens: column((row) => row.promptTokens),
      completion_tokens: column((row) => row.completionTokens),
      first_token_ms: { p50: quantile(0.5), p95: quantile(0.95) },
      scored_requests: column((row) => row.scoredRequests),
      scored_tokens: column((row) => row.scoredTokens),
      dense: estimates(periods.map(denseMoments)),
      pruned: estimates(periods.map(prunedMoments)),
      gap: estimates(periods.map(gapMoments)),
      not_scored: {
        not_sampled: column((row) => row.notSampled),
        too_short: column((row) => row.tooShort),
        budget: column((row) => row.overBudget),
        evicted: column((row) => row.evicted),
        failed: column((row) => row.scoringFailed),
      },
    }
  })
}

/** Returns the sums over requests of the mean loss above dense. */
export function gapMoments({ scoredRequests, gapSum, gapSquares }: TrafficPeriod): Moments {
  return { count: scoredRequests, sum: gapSum, squares: gapSquares }
}

function denseMoments({ scoredRequests, denseSum, denseSquares }: TrafficPeriod): Moments {
  return { count: scoredRequests, sum: denseSum, squares: denseSquares }
}

function prunedMoments({ scoredRequests, maskedSum, maskedSquares }: TrafficPeriod): Moments {
  return { count: scoredRequests, sum: maskedSum, squares: maskedSquares }
}

/** The means, of one request or more, and their intervals, of five or more. */
function estimates(moments: readonly Moments[]): MaskSeries['gap'] {
  const intervals = moments.map(meanInterval)
  return {
    mean: moments.map(({ count, sum }) => rounded(count > 0 ? sum / count : null, 1e6)),
    lower: intervals.map((interval) => rounded(interval?.lower ?? null, 1e6)),
    upper: intervals.map((interval) => rounded(interval?.upper ?? null, 1e6)),
  }
}

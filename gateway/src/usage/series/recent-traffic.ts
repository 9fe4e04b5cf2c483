import { FIRST_TOKEN_BOUNDS_MS, histogramQuantile } from '@copal/shared/metrics/latency-histogram.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { sumPeriods } from '../../storage/db/queries/period-queries.ts'

/** The traffic of a model in the last minutes. */
export interface RecentTraffic {
  /** Settled requests, over the last minute or two. */
  requestsPerSecond: number
  /** Settled tokens of prompts and outputs, over the same time. */
  tokensPerSecond: number
  /** 95th percentile of the times to first token of the last 15 minutes; null without any. */
  firstTokenMsP95: number | null
  /** Share of the requests of the last 15 minutes that failed; null without any. */
  failedShare: number | null
  /** Settled tokens of each of the last 60 minutes, the current one last. */
  tokensTrend: number[]
}

const MINUTE = 60
const TREND_MINUTES = 60
/** Minutes that quantiles and shares are made of, the current one among them. */
const STEADY_MINUTES = 15
/** Likewise of rates: the current one, which has just begun, and the one before. */
const RATE_MINUTES = 2

/** Returns the traffic of a model in the last minutes, from its periods. */
export async function recentTraffic(deps: Pick<Deps, 'db' | 'nowMs'>, model: string): Promise<RecentTraffic> {
  const now = deps.nowMs() / 1000
  const current = Math.floor(now / MINUTE) * MINUTE
  const from = current - (TREND_MINUTES - 1) * MINUTE
  const rows = await sumPeriods(deps.db, model, { width: MINUTE, from, until: current + MINUTE })
  const since = (minutes: number) => rows.filter(({ start }) => start > current - minutes * MINUTE)
  const sum = (periods: typeof rows, value: (row: (typeof rows)[number]) => number) =>
    periods.reduce((total, row) => total + value(row), 0)
  const fast = since(RATE_MINUTES)
  const fastSeconds = now - current + (RATE_MINUTES - 1) * MINUTE
  const steady = since(STEADY_MINUTES)
  const requests = sum(steady, (row) => row.requests)
  return {
    requestsPerSecond: sum(fast, (row) => row.requests) / fastSeconds,
    tokensPerSecond: sum(fast, (row) => row.tokens) / fastSeconds,
    firstTokenMsP95: histogramQuantile(
      [...FIRST_TOKEN_BOUNDS_MS, null].map((_, bucket) =>
        sum(steady, (row) => row.firstTokenCounts[bucket] ?? 0),
      ),
      FIRST_TOKEN_BOUNDS_MS,
      0.95,
    ),
    failedShare: requests === 0 ? null : sum(steady, (row) => row.failed) / requests,
    tokensTrend: Array.from({ length: TREND_MINUTES }, (_, minute) =>
      sum(
        rows.filter(({ start }) => start === from + minute * MINUTE),
        (row) => row.tokens,
      ),
    ),
  }
}

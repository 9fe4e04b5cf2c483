import { monotonicMs } from '../../platform/clock.ts'

/** Seconds over which the rate is taken. */
const WINDOW_S = 10

/** The speed at which a node generates, over the last ten seconds. */
export interface TokenRate {
  /** Counts generated tokens. */
  count(tokens: number): void
  perSecond(): number
}

/** Creates a rate without tokens. */
export function createTokenRate(nowMs: () => number = monotonicMs): TokenRate {
  /** Tokens by second; those of the last seconds only. */
  const seconds = new Map<number, number>()
  const current = () => Math.floor(nowMs() / 1000)
  const forget = (now: number) => {
    for (const second of seconds.keys()) if (second <= now - WINDOW_S) seconds.delete(second)
  }
  return {
    count(tokens) {
      const now = current()
      if (!seconds.has(now)) forget(now)
      seconds.set(now, (seconds.get(now) ?? 0) + tokens)
    },
    perSecond() {
      forget(current())
      return [...seconds.values()].reduce((sum, count) => sum + count, 0) / WINDOW_S
    },
  }
}

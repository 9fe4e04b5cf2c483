/** Fewest tokens of a window. */
const MIN_WINDOW = 32
/** Tokens that are computed for each token of a window: the token and one of context. */
const TOKENS_PER_WINDOW_TOKEN = 2
/** Part of the time left that a window is planned to take. */
const MARGIN = 0.8

/** Chooses how much of a text is scored, so that a slow or busy node scores short windows instead of none in time. */
export interface ScorePace {
  /** Returns the size of a window that, with its context, can be scored in the time left; null if none can. */
  windowTokens(leftMs: number): number | null
  /** Records the time of a text of `tokens` tokens, context included; `isComplete` is false if it was given up. */
  record(tokens: number, tookMs: number, isComplete: boolean): void
}

/**
 * Creates a pace for windows of at most `maxTokens` tokens. It begins with the largest and follows the latest text; a text
 * that was given up halves the next window.
 *
 * @param timeoutMs time limit of a text. One with more than half of it left always gets a window
 */
export function createScorePace(maxTokens: number, timeoutMs: number): ScorePace {
  let msPerToken = 0
  return {
    windowTokens(leftMs) {
      const fitting = Math.floor((MARGIN * leftMs) / msPerToken / TOKENS_PER_WINDOW_TOKEN)
      if (fitting >= MIN_WINDOW) return Math.min(maxTokens, fitting)
      return leftMs > timeoutMs / 2 ? Math.min(maxTokens, MIN_WINDOW) : null
    },
    record(tokens, tookMs, isComplete) {
      msPerToken = (tookMs / tokens) * (isComplete ? 1 : 2)
    },
  }
}

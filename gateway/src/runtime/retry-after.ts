/** The longest time that all of OpenAI's clients wait. Told a longer one, that for Node tries again within a second or two. */
const MAX_RETRY_AFTER_S = 60

/** Converts a delay to whole seconds for the header `Retry-After`; at least one, at most a minute. */
export function retryAfterSeconds(delayMs: number): number {
  return Math.min(MAX_RETRY_AFTER_S, Math.max(1, Math.ceil(delayMs / 1000)))
}

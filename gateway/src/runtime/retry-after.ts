/** The longest time that all of OpenAI's clients wait. Told a minute or more, that for Node tries again within a second or two. */
const MAX_RETRY_AFTER_S = 59

/** Converts a delay to whole seconds for the header `Retry-After`; at least 1, at most 59. */
export function retryAfterSeconds(delayMs: number): number {
  return Math.min(MAX_RETRY_AFTER_S, Math.max(1, Math.ceil(delayMs / 1000)))
}

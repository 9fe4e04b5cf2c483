/** The longest time that all of OpenAI's clients wait. Told a minute or more, that for Node tries again within a second or two. */
const MAX_RETRY_AFTER_S = 59

/**
 * Converts a delay to whole seconds, at least 1 and at most 59, for the header `Retry-After` and for the message of the error, which
 * names the same time.
 */
export function retryAfterSeconds(delayMs: number): number {
  return Math.min(MAX_RETRY_AFTER_S, Math.max(1, Math.ceil(delayMs / 1000)))
}

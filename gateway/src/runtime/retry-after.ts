/** Converts a delay to whole seconds for the header `Retry-After`; at least one. */
export function retryAfterSeconds(delayMs: number): number {
  return Math.max(1, Math.ceil(delayMs / 1000))
}

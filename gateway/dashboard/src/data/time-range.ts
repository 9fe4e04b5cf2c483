/** Spans of time that charts show. */

/** The spans to choose from, seconds. */
export const RANGES = { '1h': 3_600, '24h': 86_400, '7d': 7 * 86_400, '30d': 30 * 86_400 } as const
/** The name of a span. */
export type RangeName = keyof typeof RANGES

/** The span of a query parameter; 24 hours if it names none. */
export function rangeOf(name: string | null): RangeName {
  return name !== null && Object.hasOwn(RANGES, name) ? (name as RangeName) : '24h'
}

/** The start of a span that ends now, rounded so that it is the same for a while: to 5 minutes, or for days to an hour. */
export function rangeStart(range: RangeName, nowMs: number): string {
  const stepMs = RANGES[range] > 86_400 ? 3_600_000 : 300_000
  return new Date(Math.floor((nowMs - RANGES[range] * 1_000) / stepMs) * stepMs).toISOString()
}

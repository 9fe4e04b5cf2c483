/** The invented service: its model and its domains. */

/** Its model. */
export const MODEL = 'llama-3.2-1b'

/** Its domains with their shares of the traffic and their gaps, nats a token; by traffic, most first. */
export const DOMAINS: readonly { name: string; share: number; gap: number | null }[] = [
  { name: 'speech', share: 0.41, gap: 0.021 },
  { name: 'code', share: 0.33, gap: 0.035 },
  { name: 'support', share: 0.12, gap: 0.064 },
  { name: 'legal', share: 0.08, gap: 0.012 },
  { name: 'medical-notes', share: 0.05, gap: 0.028 },
  { name: 'recipes', share: 0.01, gap: null },
]

/** As many domains: its own, then ones with less traffic. */
export const domainsOf = (count: number): typeof DOMAINS =>
  Array.from(
    { length: count },
    (_, index) => DOMAINS[index] ?? { name: `domain-${index + 1}`, share: 0.001, gap: 0.03 },
  )

const STARTED_MS = Date.now()

/** A time before the server started, ISO 8601; after it if `minutes` is negative. */
export const ago = (minutes: number) => new Date(STARTED_MS - minutes * 60_000).toISOString()

/** The queue that samples go through, how often it gives one again, and where it lies then: as `wrangler.toml` has it. */
export const SAMPLES = { queue: 'copal-samples', retries: 12, deadLetters: 'copal-samples-dead' } as const

/** The queue of samples, its maximum retries and its dead-letter queue, as configured in `wrangler.toml`. */
export const SAMPLE_QUEUE = {
  queue: 'copal-samples',
  retries: 12,
  deadLetters: 'copal-samples-dead',
} as const

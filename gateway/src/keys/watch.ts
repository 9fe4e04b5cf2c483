import { AppError } from '@copal/shared/errors.ts'

/** Watches over the key of one running request. */
export interface KeyWatch {
  /** Fires when the key was revoked, rotated away or has expired. */
  signal: AbortSignal
  /** What the client is told then. */
  refusal(): AppError | undefined
  stop(): void
}

/**
 * Looks at a key again while its request runs, so that a long answer does not outlive a revocation by more than a
 * minute. A check that fails says nothing about the key: the next one is waited for.
 *
 * @param inForce whether the key still opens what it was sent for
 */
export function watchKey(inForce: () => Promise<boolean>, everyMs: number): KeyWatch {
  const ended = new AbortController()
  const check = async () => {
    const valid = await inForce().catch(() => true)
    if (!valid) ended.abort()
  }
  const timer = setInterval(() => void check(), everyMs)
  return {
    signal: ended.signal,
    refusal: () =>
      ended.signal.aborted
        ? new AppError('invalid_api_key', 'The API key was revoked, or ended, while the answer was made.')
        : undefined,
    stop: () => clearInterval(timer),
  }
}

import { AppError } from '@copal/shared/errors.ts'
import type { Alarms } from '../runtime/alarms.ts'
import type { KeyWatchOptions } from '../contracts/api-key.ts'

/** Watches over the key of one running request. */
export interface KeyWatch {
  /** What the client is told, when the key was revoked, rotated away or has expired. */
  refusal(): AppError | undefined
  stop(): void
}

/**
 * Looks at a key again while its request runs, so that a long answer does not outlive a revocation by more than a
 * minute. A check that fails says nothing about the key: the next one is waited for.
 *
 * @param ended is called when the key opens nothing any more
 */
export function watchKey({ inForce, everyMs }: KeyWatchOptions, alarms: Alarms, ended: () => void): KeyWatch {
  let stopped = false
  let hasEnded = false
  const check = async () => {
    const valid = await inForce().catch(() => true)
    if (stopped) return
    hasEnded = !valid
    if (hasEnded) ended()
    else cancel = alarms.after(everyMs, () => void check())
  }
  let cancel = alarms.after(everyMs, () => void check())
  return {
    refusal: () =>
      hasEnded
        ? new AppError(
            'invalid_api_key',
            'The API key was revoked, or expired, while the answer was made. Use another key.',
          )
        : undefined,
    stop: () => {
      stopped = true
      cancel()
    },
  }
}

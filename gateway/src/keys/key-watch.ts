import { AppError } from '@copal/shared/errors.ts'
import type { Alarms } from '../runtime/alarms.ts'
import type { KeyWatchOptions } from '../contracts/api-key.ts'

/** Checks the key of one running request from time to time. */
export interface KeyWatch {
  /** Returns the error for the client if the key was revoked or rotated or has expired. */
  error(): AppError | undefined
  /** Stops the checks. */
  stop(): void
}

/**
 * Checks a key while its request runs, so that a long response does not outlive a revocation by more than a minute. A
 * check that cannot be made is ignored; the next one decides.
 *
 * @param onInvalid called when the key is no longer valid
 */
export function watchKey(
  { inForce, everyMs }: KeyWatchOptions,
  alarms: Alarms,
  onInvalid: () => void,
): KeyWatch {
  let stopped = false
  let isInvalid = false
  const check = async () => {
    const valid = await inForce().catch(() => true)
    if (stopped) return
    isInvalid = !valid
    if (isInvalid) onInvalid()
    else cancel = alarms.after(everyMs, () => void check())
  }
  let cancel = alarms.after(everyMs, () => void check())
  return {
    error: () =>
      isInvalid
        ? new AppError(
            'invalid_api_key',
            'The API key was revoked, or expired, during the response. Use another key.',
          )
        : undefined,
    stop: () => {
      stopped = true
      cancel()
    },
  }
}

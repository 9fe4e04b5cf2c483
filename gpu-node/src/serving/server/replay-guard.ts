import { AppError } from '@copal/shared/errors.ts'
import { MAX_SKEW_MS } from '@copal/shared/wire/signature.ts'

/** Remembers signatures while they are valid, so that each is accepted once. */
export interface ReplayGuard {
  /**
   * Records the use of a signature.
   *
   * @param nowMs by a clock that only moves forward, so that signatures are neither forgotten early nor kept for long
   * @throws AppError `invalid_signature` when the signature was used before
   */
  use(signature: string, nowMs: number): void
}

/** Creates an empty guard. After a restart, a signature of the last minute would be accepted once more. */
export function createReplayGuard(): ReplayGuard {
  /** Time of use by signature, oldest first. */
  const used = new Map<string, number>()
  return {
    use(signature, nowMs) {
      for (const [oldest, usedMs] of used) {
        if (nowMs - usedMs <= 2 * MAX_SKEW_MS) break
        used.delete(oldest)
      }
      if (used.has(signature))
        throw new AppError('invalid_signature', 'This call was made before. Sign every call anew.')
      used.set(signature, nowMs)
    },
  }
}

import { AppError } from '@copal/shared/errors.ts'
import { MAX_SKEW_MS } from '@copal/shared/wire/signature.ts'

/** Remembers signatures as long as they are good, so that each opens one call. */
export interface ReplayGuard {
  /** @throws AppError `invalid_signature` when the signature was used before */
  use(signature: string, nowMs: number): void
}

/** A guard that has seen nothing. After a restart a signature of the last minute would open once more. */
export function createReplayGuard(): ReplayGuard {
  /** In the order of their use, so that the oldest come first. */
  const used = new Map<string, number>()
  return {
    use(signature, nowMs) {
      for (const [old, atMs] of used) {
        if (nowMs - atMs <= 2 * MAX_SKEW_MS) break
        used.delete(old)
      }
      if (used.has(signature))
        throw new AppError('invalid_signature', 'This call was made before. Sign every call anew.')
      used.set(signature, nowMs)
    },
  }
}

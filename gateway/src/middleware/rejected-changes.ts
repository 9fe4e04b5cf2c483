import { AppError } from '@copal/shared/errors.ts'
import { storeLatest } from '../runtime/bounded-map.ts'
import { retryAfterSeconds } from '../runtime/retry-after.ts'
import { fillBucket, type BucketRate, type TokenBucket } from '../runtime/token-bucket.ts'

/** Rejected calls that may come at once, as a multiple of those that an isolate answers without delay in a second. */
const BURST_SECONDS = 3
/** Pairs of actors and actions that are counted; beyond it the one that was counted longest ago starts anew. */
const MAX_COUNTED = 4_096

/**
 * Bounds how often an actor may repeat an action that is rejected, since each call is written to the audit log before it is known
 * that it will be: by a token bucket for each actor and action, in each isolate. Other actions of the actor stay possible.
 */
export class RejectedChanges {
  readonly #left = new Map<string, TokenBucket>()

  /**
   * Checks whether an action may be tried.
   *
   * @param key the actor and the action
   * @param perSecond `COPAL_REFUSALS_PER_SECOND`; 0 is no bound
   * @throws AppError `rate_limit_exceeded` if it was rejected too often of late
   */
  requireRoom(key: string, action: string, perSecond: number, atMs: number): void {
    const known = this.#left.get(key)
    if (perSecond === 0 || !known) return
    const { left } = fillBucket(known, rateOf(perSecond), atMs)
    if (left >= 1) return
    const retryAfterS = retryAfterSeconds(((1 - left) * 60_000) / perSecond)
    throw new AppError(
      'rate_limit_exceeded',
      `'${action}' was rejected too often: its errors say why. It is not tried again, and not recorded, for ${retryAfterS} s.`,
      { retryAfterS },
    )
  }

  /** Counts a rejected call, and returns whether the next one is not tried. */
  count(key: string, perSecond: number, atMs: number): boolean {
    if (perSecond === 0) return false
    const left = Math.max(0, fillBucket(this.#left.get(key), rateOf(perSecond), atMs).left - 1)
    storeLatest(this.#left, key, { left, atMs }, MAX_COUNTED)
    return left < 1
  }
}

function rateOf(perSecond: number): BucketRate {
  return { perMinute: perSecond, burst: BURST_SECONDS * perSecond }
}

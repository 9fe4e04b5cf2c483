import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import { storeLatest } from '../runtime/bounded-map.ts'
import { fillBucket, type TokenBucket } from '../runtime/token-bucket.ts'
import { callerKeyId, type CallerEnv } from './caller.ts'

/** The part of a minute's lists that may be read at once. */
const BURST = 1 / 6
/** Keys whose lists are counted; beyond it the one that was counted longest ago starts anew. */
const MAX_KEYS = 4_096

/**
 * Creates middleware that bounds the lists and reports that a key reads, which cost the database more than a request for
 * a node costs, by a token bucket for each key. The operator's admin key has no limit. Mount it behind `requireKey` or
 * `requireActor`; only `GET` is counted.
 *
 * @throws AppError `rate_limit_exceeded`
 */
export function limitLists(): MiddlewareHandler<CallerEnv> {
  /** The list requests that each key has left. */
  const allowances = new Map<string, TokenBucket>()
  return async (c, next) => {
    const { deps } = c.var
    const keyId = callerKeyId(c.var)
    const limit = deps.listsPerMinute
    if (c.req.method === 'GET' && keyId !== undefined && limit > 0) {
      const atMs = deps.nowMs()
      const burst = Math.max(1, limit * BURST)
      const { left } = fillBucket(allowances.get(keyId), { perMinute: limit, burst }, atMs)
      if (left < 1) throw tooManyLists(limit, ((1 - left) * 60_000) / limit)
      storeLatest(allowances, keyId, { left: left - 1, atMs }, MAX_KEYS)
    }
    await next()
  }
}

function tooManyLists(limit: number, waitMs: number): AppError {
  const retryAfterS = retryAfterSeconds(waitMs)
  return new AppError(
    'rate_limit_exceeded',
    `This key may read ${limit} lists a minute. Keep the last one, and try again in ${retryAfterS} s.`,
    { retryAfterS },
  )
}

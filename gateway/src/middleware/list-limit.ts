import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { retryAfterSeconds } from '@copal/shared/retry-after.ts'
import { storeLatest } from '../runtime/bounded-map.ts'
import { fillBucket, type TokenBucket } from '../runtime/token-bucket.ts'
import { callerKeyId, type CallerEnv } from './caller.ts'

/** The part of a minute's lists that may be read at once. A minute's changes may be made at once. */
const BURST = 1 / 6
/** Changes a minute, as a part of the lists a minute: a deletion of samples asks every domain, and each change has a row in the audit log. */
const CHANGES = 1 / 5
/** Keys whose lists, or whose changes, are counted; beyond it the one that was counted longest ago starts anew. */
const MAX_KEYS = 4_096

/**
 * Creates middleware that bounds what a key reads and changes: lists and reports cost the database more than a request for a node
 * costs, and changes more than those. By two token buckets for each key; the operator's admin key has no limit. Mount it behind
 * `requireKey` or `requireActor`.
 *
 * @throws AppError `rate_limit_exceeded`
 */
export function limitLists(): MiddlewareHandler<CallerEnv> {
  /** The lists and the changes that each key has left. */
  const allowances = { lists: new Map<string, TokenBucket>(), changes: new Map<string, TokenBucket>() }
  return async (c, next) => {
    const { deps } = c.var
    const keyId = callerKeyId(c.var)
    const lists = deps.listsPerMinute
    if (keyId !== undefined && lists > 0) {
      const kind = c.req.method === 'GET' || c.req.method === 'HEAD' ? 'lists' : 'changes'
      const perMinute = kind === 'lists' ? lists : Math.max(1, Math.floor(lists * CHANGES))
      const atMs = deps.nowMs()
      const burst = kind === 'lists' ? Math.max(1, lists * BURST) : perMinute
      const { left } = fillBucket(allowances[kind].get(keyId), { perMinute, burst }, atMs)
      if (left < 1) throw tooMany(kind, perMinute, ((1 - left) * 60_000) / perMinute)
      storeLatest(allowances[kind], keyId, { left: left - 1, atMs }, MAX_KEYS)
    }
    await next()
  }
}

function tooMany(kind: 'lists' | 'changes', perMinute: number, waitMs: number): AppError {
  const retryAfterS = retryAfterSeconds(waitMs)
  return new AppError(
    'rate_limit_exceeded',
    kind === 'lists'
      ? `This key may read ${perMinute} lists a minute. Keep the last one, and try again in ${retryAfterS} s.`
      : `This key may make ${perMinute} changes a minute. Try again in ${retryAfterS} s.`,
    { retryAfterS },
  )
}

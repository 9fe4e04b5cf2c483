import type { MiddlewareHandler } from 'hono'
import { clientNetwork } from '../keys/unknown-key-limit.ts'
import { storeLatest } from '../runtime/bounded-map.ts'
import { fillBucket, type TokenBucket } from '../runtime/token-bucket.ts'
import { callerKeyId, type CallerEnv } from './caller.ts'

/** How long a refusal is held back: by chance, so that clients which were refused together do not come back together. */
const MIN_HOLD_MS = 500
const MAX_HOLD_MS = 1_500
/** Refusals that an isolate holds back at once; beyond it they are sent without delay. */
const MAX_HELD = 1_024
/** Callers whose refusals are counted; beyond it the one that was counted longest ago starts anew. */
const MAX_CALLERS = 4_096

/**
 * Creates middleware that holds back the refusals (400 to 498) of a caller that gets more than `COPAL_REFUSALS_PER_SECOND`, by
 * a token bucket for each key, or for each network where there is no valid key. So a client that repeats refused requests
 * without waiting takes as many as it has connections a second, and not all of the processor. Waiting takes no processor
 * time. Mount it before what refuses.
 */
export function paceRefusals(): MiddlewareHandler<CallerEnv> {
  /** The refusals that each caller may still get without delay. */
  const allowances = new Map<string, TokenBucket>()
  /** The refusals that are held back. */
  let held = 0

  /** Counts a refusal, and returns whether it comes too soon. */
  const isTooSoon = (caller: string, perSecond: number, atMs: number): boolean => {
    const rate = { perMinute: 60 * perSecond, burst: perSecond }
    const { left } = fillBucket(allowances.get(caller), rate, atMs)
    storeLatest(allowances, caller, { left: Math.max(0, left - 1), atMs }, MAX_CALLERS)
    return left < 1
  }

  return async (c, next) => {
    await next()
    const { status } = c.res
    const { deps } = c.var
    // 499: the client is gone.
    if (status < 400 || status >= 499 || deps.refusalsPerSecond === 0) return
    const atMs = deps.nowMs()
    const caller = callerKeyId(c.var) ?? `network ${clientNetwork(c.req.header('cf-connecting-ip'))}`
    if (!isTooSoon(caller, deps.refusalsPerSecond, atMs) || held >= MAX_HELD) return
    const holdMs = MIN_HOLD_MS + Math.random() * (MAX_HOLD_MS - MIN_HOLD_MS)
    held += 1
    await new Promise((resolve) => setTimeout(resolve, holdMs))
    held -= 1
  }
}

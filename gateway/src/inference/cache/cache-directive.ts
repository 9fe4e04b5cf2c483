import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'

const HEADER = 'x-copal-cache'
const TTL_HEADER = 'x-copal-cache-ttl'

const DEFAULT_TTL_S = 3_600
/** A day: nobody but their tenant's administrator deletes answers sooner. */
const MAX_TTL_S = 86_400

/** What a request wants of the response cache. */
export interface CacheDirective {
  /** An answer that is kept will do; otherwise a new one takes its place. */
  use: boolean
  /** How old an answer may be, and for how long a new one is kept. */
  ttlMs: number
}

/**
 * What a request wants of the cache, from `x-copal-cache` and `x-copal-cache-ttl`; undefined when it wants nothing of it.
 *
 * @throws AppError `invalid_request` that names the header
 */
export function readCacheDirective(c: Pick<Context, 'req'>): CacheDirective | undefined {
  const value = c.req.header(HEADER) ?? 'false'
  if (value !== 'true' && value !== 'refresh' && value !== 'false')
    throw invalid(HEADER, "'true', 'refresh' or 'false' is expected")
  const ttl = c.req.header(TTL_HEADER) ?? String(DEFAULT_TTL_S)
  if (!/^[1-9]\d{0,5}$/.test(ttl) || Number(ttl) > MAX_TTL_S)
    throw invalid(TTL_HEADER, `whole seconds from 1 to ${MAX_TTL_S} are expected`)
  if (value === 'false') return undefined
  return { use: value === 'true', ttlMs: Number(ttl) * 1_000 }
}

function invalid(header: string, expected: string): AppError {
  return new AppError('invalid_request', `Invalid '${header}': ${expected}.`, { param: header })
}

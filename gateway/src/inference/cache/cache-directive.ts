import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'

const HEADER = 'x-copal-cache'
const TTL_HEADER = 'x-copal-cache-ttl'

const DEFAULT_TTL_S = 3_600
/** One day: only an administrator of the tenant can delete cached responses sooner. */
const MAX_TTL_S = 86_400

/** What a request's headers ask of the response cache. */
export interface CacheDirective {
  /** True: use a cached response. False: generate a new response that replaces it. */
  use: boolean
  /** Maximum age of a cached response, and how long a new one is cached. */
  ttlMs: number
}

/**
 * Reads the cache directive of a request from `x-copal-cache` and `x-copal-cache-ttl`; undefined if the cache is not to
 * be used.
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

import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'

const HEADER = 'x-copal-cache'
const TTL_HEADER = 'x-copal-cache-ttl'

const DEFAULT_TTL_S = 3_600
/** One day, because until then only an administrator of the tenant can delete a cached response. */
const MAX_TTL_S = 86_400

/** The cache directive of a request's headers. */
export interface CacheDirective {
  /** True: use a cached response. False: generate a new response that replaces it. */
  mayUseCached: boolean
  /** The maximum age of a cached response, and the time for which a new one is kept. */
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
    throw invalid(TTL_HEADER, `a whole number of seconds from 1 to ${MAX_TTL_S} is expected`)
  if (value === 'false') return undefined
  return { mayUseCached: value === 'true', ttlMs: Number(ttl) * 1_000 }
}

function invalid(header: string, expected: string): AppError {
  return new AppError('invalid_request', `Invalid '${header}': ${expected}.`, { param: header })
}

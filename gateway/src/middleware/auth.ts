import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'
import { findActiveKey, type KeyRow } from '../db/queries/keys.ts'
import type { Deps } from '../deps.ts'
import type { AppEnv, KeyedEnv } from '../context.ts'

/** How long an isolate trusts a key that it looked up; bounds how long a revoked key still works. */
const CACHE_MS = 30_000
const CACHE_ENTRIES = 1_024
const KEY_PREFIX = 'sk-copal-'

/** A new API key, and what is stored of it. */
export interface NewKey {
  key: string
  hash: string
  /** Its beginning, for people to tell keys apart. */
  prefix: string
}

/** Makes an API key of 192 random bits. */
export async function generateKey(): Promise<NewKey> {
  const random = crypto.getRandomValues(new Uint8Array(24))
  const secret = btoa(String.fromCharCode(...random))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
  const key = KEY_PREFIX + secret
  return { key, hash: await hashKey(key), prefix: key.slice(0, KEY_PREFIX.length + 6) }
}

/** SHA-256 of a key, in lower-case hex. */
export function hashKey(key: string): Promise<string> {
  return sha256(new Uint8Array(new TextEncoder().encode(key)))
}

/**
 * Admits requests with a valid API key and hands it on as `key`.
 *
 * Keys are looked up in D1 by hash; found ones are remembered for 30 s, unknown ones never, so that a
 * new key works at once.
 */
export function requireKey(): MiddlewareHandler<KeyedEnv> {
  const cache = new Map<string, { key: KeyRow; untilMs: number }>()

  const lookUp = async (deps: Deps, hash: string): Promise<KeyRow | undefined> => {
    const nowMs = deps.nowMs()
    const cached = cache.get(hash)
    if (cached && cached.untilMs > nowMs) return cached.key
    const key = await findActiveKey(deps.db, hash)
    cache.delete(hash)
    if (!key) return undefined
    const [oldest] = cache.keys()
    if (cache.size >= CACHE_ENTRIES && oldest !== undefined) cache.delete(oldest)
    cache.set(hash, { key, untilMs: nowMs + CACHE_MS })
    return key
  }

  return async (c, next) => {
    const { deps } = c.var
    const token = bearerToken(c.req.header('authorization'), 'an API key', `${KEY_PREFIX}…`)
    const hash = await hashKey(token)
    const key = token.startsWith(KEY_PREFIX) ? await lookUp(deps, hash) : undefined
    if (!key) {
      throw new AppError(
        'invalid_api_key',
        sameHash(hash, deps.adminKeySha256)
          ? "This is the admin key; it only opens '/admin' and '/metrics'. Send an API key here."
          : token.startsWith(KEY_PREFIX)
            ? `The API key '${shown(token)}' is unknown or was revoked.`
            : `The API key does not begin with '${KEY_PREFIX}' as keys of this service do.`,
      )
    }
    c.set('key', key)
    await next()
  }
}

/** Admits requests with the admin key, compared by hash in constant time. */
export function requireAdmin(): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const { deps } = c.var
    const token = bearerToken(c.req.header('authorization'), 'the admin key', '<admin key>')
    if (!sameHash(await hashKey(token), deps.adminKeySha256)) {
      throw new AppError(
        'invalid_api_key',
        token.startsWith(KEY_PREFIX)
          ? "This key is not the admin key, which '/admin' and '/metrics' need."
          : 'The admin key is wrong.',
      )
    }
    await next()
  }
}

function bearerToken(header: string | undefined, what: string, example: string): string {
  if (!header) {
    throw new AppError('invalid_api_key', `Send ${what} in the header 'Authorization: Bearer ${example}'.`)
  }
  const token = /^bearer +(\S+)$/i.exec(header.trim())?.[1]
  if (!token || token.length > 512) {
    throw new AppError(
      'invalid_api_key',
      `The 'Authorization' header is malformed; 'Bearer ${example}' is expected.`,
    )
  }
  return token
}

function sameHash(a: string, b: string): boolean {
  const encoder = new TextEncoder()
  return a.length === b.length && crypto.subtle.timingSafeEqual(encoder.encode(a), encoder.encode(b))
}

function shown(token: string): string {
  return token.length > KEY_PREFIX.length + 6 ? `${token.slice(0, KEY_PREFIX.length + 6)}…` : token
}

import { findKeyByHash } from '../storage/db/queries/key-queries.ts'
import type { ActiveKey } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { createUnknownKeyLimit } from './unknown-key-limit.ts'
import { digestOf, KEY_PREFIX, pepperedHash, sameHash } from './key-secret.ts'
import { storeLatest } from '../runtime/bounded-map.ts'

const MAX_CACHED_KEYS = 1_024
/** How long a key that was valid here is refused from memory after it is gone. */
const REVOKED_MS = 10 * 60_000

/** The result of a key check: the key, or the reason that the token is not valid. */
export type KeyCheck =
  | { ok: true; key: ActiveKey }
  | { ok: false; reason: 'unknown' }
  | { ok: false; reason: 'expired' | 'rotated'; sinceMs: number }

/** Checks API keys. */
export interface Keyring {
  /**
   * Checks a token that a client sent.
   *
   * @param address the client's network, see `clientNetwork`
   * @throws AppError `rate_limit_exceeded` if the address has sent too many unknown keys; the error of the database if the
   * token is not cached and the lookup fails
   */
  check(deps: KeyringDeps, token: string, address: string): Promise<KeyCheck>
}

/** The dependencies of a key check. */
type KeyringDeps = Pick<
  Deps,
  'db' | 'keyPepper' | 'keyTrustMs' | 'nowMs' | 'unknownKeysPerMinute' | 'unknownKeyEdgeLimit'
>

interface Entry {
  key: ActiveKey
  /** Whether the token is the key from before the last rotation. */
  rotated: boolean
  untilMs: number
}

/**
 * Creates the keyring of an isolate.
 *
 * Keys are looked up in D1 by their peppered hash. Found keys are cached by their SHA-256 for `keyTrustMs`, so that most
 * requests need neither the database nor the pepper. Unknown keys are refused from memory for some seconds, and each client
 * may send few of them, see `unknown-key-limit.ts`. A key that was valid here before is not limited: a flood of unknown keys
 * from its address does not lock it out. Once it is revoked, it is refused from memory for ten minutes, so its running requests
 * end. The index lookup does not take constant time, but it compares a MAC, which cannot be targeted without the pepper.
 */
export function createKeyring(): Keyring {
  const cache = new Map<string, Entry>()
  /** Keys that were valid here and are gone, and until when they are refused without a look-up. */
  const revoked = new Map<string, number>()
  const unknownKeys = createUnknownKeyLimit()

  const lookUp = async (
    deps: Pick<Deps, 'db' | 'keyPepper' | 'keyTrustMs'>,
    digest: string,
    nowMs: number,
  ): Promise<Entry | undefined> => {
    const hash = await pepperedHash(deps.keyPepper, digest)
    const key = await findKeyByHash(deps.db, { hash, digest })
    if (!key) return undefined
    const current = sameHash(key.hash, key.peppered ? hash : digest)
    const rotated = key.previousHash !== null && sameHash(key.previousHash, hash)
    return current || rotated ? { key, rotated: !current, untilMs: nowMs + deps.keyTrustMs } : undefined
  }

  return {
    async check(deps, token, address) {
      if (!token.startsWith(KEY_PREFIX)) return { ok: false, reason: 'unknown' }
      const nowMs = deps.nowMs()
      const digest = await digestOf(token)
      if ((revoked.get(digest) ?? 0) > nowMs) return { ok: false, reason: 'unknown' }
      let entry = cache.get(digest)
      if (!entry || entry.untilMs <= nowMs) {
        const find = () => lookUp(deps, digest, nowMs)
        const wasKnown = entry !== undefined
        entry = wasKnown
          ? await find()
          : await unknownKeys.lookUp(deps, { digest, address, cached: () => cache.get(digest), find })
        cache.delete(digest)
        if (!entry) {
          if (wasKnown) storeLatest(revoked, digest, nowMs + REVOKED_MS, MAX_CACHED_KEYS)
          return { ok: false, reason: 'unknown' }
        }
        storeLatest(cache, digest, entry, MAX_CACHED_KEYS)
      }
      const { key, rotated } = entry
      if (rotated && (key.previousUntil ?? 0) <= nowMs)
        return { ok: false, reason: 'rotated', sinceMs: key.previousUntil ?? 0 }
      if (key.expiresAt !== null && key.expiresAt <= nowMs)
        return { ok: false, reason: 'expired', sinceMs: key.expiresAt }
      return { ok: true, key }
    },
  }
}

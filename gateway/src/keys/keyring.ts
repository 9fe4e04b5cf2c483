import { findKeyByHash } from '../storage/db/queries/key-queries.ts'
import type { ActiveKey } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { digestOf, KEY_PREFIX, pepperedHash, sameHash } from './key-secret.ts'

const CACHE_ENTRIES = 1_024

/** A key that was presented, or why it opens nothing. */
export type KeyCheck =
  | { ok: true; key: ActiveKey }
  | { ok: false; reason: 'unknown' }
  | { ok: false; reason: 'expired' | 'rotated'; sinceMs: number }

/** Knows which API keys are in force. */
export interface Keyring {
  /**
   * Checks a token that a client sent.
   *
   * @throws what the database does, when the token is not known and that does not answer
   */
  check(deps: Pick<Deps, 'db' | 'keyPepper' | 'keyTrustMs' | 'nowMs'>, token: string): Promise<KeyCheck>
}

interface Entry {
  key: ActiveKey
  /** The key that was presented is the one from before the last rotation. */
  rotated: boolean
  untilMs: number
}

/**
 * The keyring of an isolate.
 *
 * Keys are looked up in D1 by their peppered hash. Found ones are remembered for 30 s, by their SHA-256, so that most
 * requests need neither the database nor the pepper; unknown ones never, so that a new key works at once. The index
 * lookup itself does not take constant time, but it compares a MAC that nobody without the pepper can aim at.
 */
export function createKeyring(): Keyring {
  const cache = new Map<string, Entry>()

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
    async check(deps, token) {
      if (!token.startsWith(KEY_PREFIX)) return { ok: false, reason: 'unknown' }
      const nowMs = deps.nowMs()
      const digest = await digestOf(token)
      let entry = cache.get(digest)
      if (!entry || entry.untilMs <= nowMs) {
        cache.delete(digest)
        entry = await lookUp(deps, digest, nowMs)
        if (!entry) return { ok: false, reason: 'unknown' }
        const [oldest] = cache.keys()
        if (cache.size >= CACHE_ENTRIES && oldest !== undefined) cache.delete(oldest)
        cache.set(digest, entry)
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

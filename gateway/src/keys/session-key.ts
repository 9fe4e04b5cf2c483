import type { Actor, ActiveKey } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { actorOfKey } from './actor-of-key.ts'
import { digestOf, pepperedHash, sameHash } from './key-secret.ts'

/** The key that a session or a one-time link was created with, as stored. */
export interface SignedInKey {
  /** Null: the admin key. */
  keyId: string | null
  keyHash: string
}

/**
 * Returns what is stored of the key that signs in. The hash changes when the key is rotated, or the admin key replaced, which
 * ends what is bound to it.
 */
export async function signedInKey(
  deps: Pick<Deps, 'keyPepper' | 'adminKeySha256'>,
  actor: Actor,
): Promise<SignedInKey> {
  if (actor.kind !== 'operator') return { keyId: actor.key.id, keyHash: actor.key.hash }
  return { keyId: null, keyHash: await pepperedHash(deps.keyPepper, deps.adminKeySha256) }
}

/**
 * Returns whether a token is the present secret of its key, not the one from before its rotation, which is valid for a while: a
 * session must not outlive the secret that it was created with.
 */
export async function isPresentSecret(
  { keyPepper }: Pick<Deps, 'keyPepper'>,
  { hash, peppered }: Pick<ActiveKey, 'hash' | 'peppered'>,
  token: string,
): Promise<boolean> {
  const digest = await digestOf(token)
  return sameHash(hash, peppered ? await pepperedHash(keyPepper, digest) : digest)
}

/**
 * Returns the actor that a stored key stands for now.
 *
 * @param key its row; null for the admin key, and for a key that was revoked
 * @returns undefined if the key was revoked, rotated or replaced, or has expired
 */
export async function actorOfSignedIn(
  deps: Pick<Deps, 'keyPepper' | 'adminKeySha256' | 'nowMs'>,
  { keyId, keyHash }: SignedInKey,
  key: ActiveKey | null,
): Promise<Actor | undefined> {
  if (keyId === null) {
    const { keyHash: current } = await signedInKey(deps, { kind: 'operator' })
    return sameHash(keyHash, current) ? { kind: 'operator' } : undefined
  }
  if (!key || !sameHash(keyHash, key.hash)) return undefined
  if (key.expiresAt !== null && key.expiresAt <= deps.nowMs()) return undefined
  return actorOfKey(key)
}

import { hmac, isHmac } from '@copal/shared/wire/hmac.ts'
import type { Actor } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { randomToken } from './key-secret.ts'
import { signedInKey, type SignedInKey } from './session-key.ts'

/** The purpose of a secret's MAC: to store a link or a session, to check a cookie without a look-up, or against forged requests. */
type Purpose = 'link' | 'session' | 'cookie' | 'csrf'

/** Dependencies of links and sessions. */
export type SecretDeps = Pick<Deps, 'db' | 'keyPepper' | 'adminKeySha256' | 'nowMs'>

/** The stored form of a secret, with the key that signed in. */
export interface StoredSecret extends SignedInKey {
  hash: string
  /** Unix milliseconds. */
  createdAt: number
}

/** Creates the random secret of a link or a session of an actor. */
export async function createSecret(
  deps: SecretDeps,
  actor: Actor,
  purpose: 'link' | 'session',
): Promise<{ secret: string; stored: StoredSecret }> {
  const secret = randomToken()
  const hash = await secretMac(deps, purpose, secret)
  return { secret, stored: { hash, ...(await signedInKey(deps, actor)), createdAt: deps.nowMs() } }
}

/** Returns the MAC of a secret under the pepper, in hex; the database has no secret itself. */
export function secretMac(
  { keyPepper }: Pick<Deps, 'keyPepper'>,
  purpose: Purpose,
  secret: string,
): Promise<string> {
  return hmac(keyPepper, messageOf(purpose, secret))
}

/** Returns whether a text is the MAC of a secret, in constant time. */
export function isSecretMac(
  { keyPepper }: Pick<Deps, 'keyPepper'>,
  purpose: Purpose,
  secret: string,
  mac: string,
): Promise<boolean> {
  return isHmac(keyPepper, messageOf(purpose, secret), mac)
}

function messageOf(purpose: Purpose, secret: string): string {
  return `copal dashboard ${purpose} ${secret}`
}

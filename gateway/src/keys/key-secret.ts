import { hmac } from '@copal/shared/wire/hmac.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'

const encoder = new TextEncoder()

/** How every API key begins. */
export const KEY_PREFIX = 'sk-copal-'
/** Characters of a key that may be shown: six of the 32 random ones, which leaves 156 bits. */
const SHOWN_CHARACTERS = KEY_PREFIX.length + 6

/** A new API key, and its beginning, for people to tell keys apart. */
export interface NewKey {
  key: string
  prefix: string
}

/** Makes an API key of 192 random bits. */
export function generateKey(): NewKey {
  const random = crypto.getRandomValues(new Uint8Array(24))
  const secret = btoa(String.fromCharCode(...random))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
  const key = KEY_PREFIX + secret
  return { key, prefix: key.slice(0, SHOWN_CHARACTERS) }
}

/** As much of a token as an error message may repeat. */
export function shownPart(token: string): string {
  return token.length > SHOWN_CHARACTERS ? `${token.slice(0, SHOWN_CHARACTERS)}…` : token
}

/** SHA-256 of a key or any other token, in lower-case hex. */
export function digestOf(token: string): Promise<string> {
  return sha256(new Uint8Array(encoder.encode(token)))
}

/**
 * What is stored of a key: HMAC-SHA256 over its SHA-256 in hex, under the pepper, in hex. Over the digest and not the
 * key, so that digests stored before there was a pepper can be hashed again without their keys.
 *
 * @param digest of {@link digestOf}
 */
export function pepperedHash(pepper: string, digest: string): Promise<string> {
  return hmac(pepper, digest)
}

/** Whether two hashes in hex are the same, in a time that tells nothing of where they differ. */
export function sameHash(a: string, b: string): boolean {
  return a.length === b.length && crypto.subtle.timingSafeEqual(encoder.encode(a), encoder.encode(b))
}

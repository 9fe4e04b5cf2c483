import { hmac } from '@copal/shared/wire/hmac.ts'
import { sha256 } from '@copal/shared/wire/signature.ts'

const encoder = new TextEncoder()

/** The prefix of every API key. */
export const KEY_PREFIX = 'sk-copal-'
/** The number of characters of a key that may be shown: six of the 32 random ones, so 156 bits stay secret. */
const SHOWN_CHARACTERS = KEY_PREFIX.length + 6

/** A new API key, and its first characters by which people identify it. */
export interface NewKey {
  key: string
  prefix: string
}

/** Generates an API key of 192 random bits. */
export function generateKey(): NewKey {
  const key = KEY_PREFIX + randomText(24)
  return { key, prefix: key.slice(0, SHOWN_CHARACTERS) }
}

/** Generates a token of 256 random bits: 43 letters, digits, `-` and `_`. */
export function randomToken(): string {
  return randomText(32)
}

function randomText(bytes: number): string {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(bytes))))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '')
}

/** Returns the part of a token that an error message may contain. */
export function displayPart(token: string): string {
  return token.length > SHOWN_CHARACTERS ? `${token.slice(0, SHOWN_CHARACTERS)}…` : token
}

/** Returns the SHA-256 of a key or another token in lower-case hex. */
export function digestOf(token: string): Promise<string> {
  return sha256(new Uint8Array(encoder.encode(token)))
}

/**
 * Returns the hash that is stored of a key: HMAC-SHA256 of its hex SHA-256 under the pepper, in hex. It is computed from
 * the digest and not the key, so that digests that are older than the pepper can be hashed again without their keys.
 *
 * @param digest the result of {@link digestOf}
 */
export function pepperedHash(pepper: string, digest: string): Promise<string> {
  return hmac(pepper, digest)
}

/** Returns whether two hex hashes are equal, in constant time. Either may be any text of a client. */
export function sameHash(a: string, b: string): boolean {
  const [one, other] = [encoder.encode(a), encoder.encode(b)]
  return one.byteLength === other.byteLength && crypto.subtle.timingSafeEqual(one, other)
}

import { sha256 } from '@copal/shared/wire/signature.ts'

/** Characters of a text that its head has, and to which held-out texts are truncated: about 1,000 tokens. */
const HEAD_CHARACTERS = 4 * 1024

/** Returns the beginning of a text, at most `maxCharacters`, never with half of a character. */
export function headOf(text: string, maxCharacters = HEAD_CHARACTERS): string {
  return text.length > maxCharacters ? text.slice(0, maxCharacters).toWellFormed() : text
}

/** Returns the SHA-256 of a text, lower-case hex. */
export function textHash(text: string): Promise<string> {
  return sha256(new Uint8Array(new TextEncoder().encode(text)))
}

/** Returns the hash of a text's head, by which texts are recognized that begin alike, truncated or not. */
export function headHash(text: string): Promise<string> {
  return textHash(headOf(text))
}

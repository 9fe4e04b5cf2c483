/** Maximum bytes of UTF-8 for one character as JavaScript counts them. */
export const MAX_CHARACTER_BYTES = 3

/** Returns the size of a text in UTF-8, bytes. */
export function textBytes(text: string): number {
  return new TextEncoder().encode(text).byteLength
}

/** Returns the beginning of a text that has at most `maxBytes` of UTF-8, never with half of a character. */
export function truncateToBytes(text: string, maxBytes: number): string {
  const { read } = new TextEncoder().encodeInto(
    text,
    new Uint8Array(Math.min(maxBytes, MAX_CHARACTER_BYTES * text.length)),
  )
  return text.slice(0, read)
}

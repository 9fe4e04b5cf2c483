/**
 * The byte alphabet of GPT-2's byte-level BPE: a printable character for each of the 256 bytes.
 * Printable Latin-1 bytes stand for themselves, the others follow from U+0100 on in byte order
 * (GPT-2 `encoder.py`, `bytes_to_unicode`).
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++))
})()

const CHARACTER_BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]))

/**
 * Returns the bytes of a token of a byte-level vocabulary.
 *
 * @returns `undefined` when a character is not in the byte alphabet: the token is plain text.
 */
export function byteLevelBytes(token: string): Uint8Array | undefined {
  const bytes: number[] = []
  for (const character of token) {
    const byte = CHARACTER_BYTES.get(character)
    if (byte === undefined) return undefined
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}

/** A decoded text, or the position of the first byte that is not UTF-8. */
export type DecodedText =
  | { text: string }
  | {
      /** Offset of the first invalid byte. */
      offset: number
      /** Value of the byte in hex: `0xff`. */
      byte: string
    }

/** Decodes UTF-8 and drops a byte order mark. */
export function decodeUtf8(bytes: Buffer): DecodedText {
  const text = bytes.toString('utf8')
  const offset = firstInvalidByte(bytes, text)
  if (offset === undefined) return { text: text.replace(/^\uFEFF/, '') }
  return { offset, byte: `0x${(bytes[offset] ?? 0).toString(16).padStart(2, '0')}` }
}

/** Finds the first invalid byte. The decoder replaces it by U+FFFD; a U+FFFD in the file itself is three valid bytes. */
function firstInvalidByte(bytes: Buffer, text: string): number | undefined {
  let from = 0
  let offset = 0
  for (;;) {
    const at = text.indexOf('\uFFFD', from)
    if (at === -1) return undefined
    offset += Buffer.byteLength(text.slice(from, at))
    if (bytes[offset] !== 0xef || bytes[offset + 1] !== 0xbf || bytes[offset + 2] !== 0xbd) return offset
    offset += 3
    from = at + 1
  }
}

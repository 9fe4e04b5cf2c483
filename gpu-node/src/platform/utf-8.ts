/** A text, or where its bytes stop being UTF-8. */
export type DecodedText =
  | { text: string }
  | {
      /** Offset of the first wrong byte. */
      offset: number
      /** Its value as people write it: `0xff`. */
      byte: string
    }

/** Decodes UTF-8 and drops a byte order mark. */
export function decodeUtf8(bytes: Buffer): DecodedText {
  const text = bytes.toString('utf8')
  const offset = firstInvalidByte(bytes, text)
  if (offset === undefined) return { text: text.replace(/^\uFEFF/, '') }
  return { offset, byte: `0x${(bytes[offset] ?? 0).toString(16).padStart(2, '0')}` }
}

/** Decoding puts U+FFFD where a byte is wrong; one that stands in the file itself is three right bytes. */
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

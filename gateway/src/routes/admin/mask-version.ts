/**
 * Parses the version of a mask in a path: `3`, `m3`, and `0`, `m0` or `dense` for the dense model.
 *
 * @returns undefined for anything else
 */
export function parseMaskVersion(text: string): number | undefined {
  if (text === 'dense') return 0
  const digits = /^m?(0|[1-9]\d{0,9})$/.exec(text)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/** Returns the name of a mask in messages, `m3`; what cannot be parsed is quoted as it was sent. */
export function nameMask(text: string): string {
  const version = parseMaskVersion(text)
  return version === undefined ? `'${text}'` : version === 0 ? 'dense' : `m${version}`
}

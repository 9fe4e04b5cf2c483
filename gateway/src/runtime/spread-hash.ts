/**
 * Hashes a text to an evenly distributed number below 2³²: FNV-1a, then the finalizer of MurmurHash3, which spreads the
 * last characters over all bits.
 */
export function spreadHash(text: string): number {
  let hash = 0x811c9dc5
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

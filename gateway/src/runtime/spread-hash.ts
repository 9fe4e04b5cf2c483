/**
 * Hashes a text to an evenly distributed number below 2³²: FNV-1a over its code points, then the finalizer of MurmurHash3,
 * which spreads the last characters over all bits.
 */
export function spreadHash(text: string): number {
  let hash = 0x811c9dc5
  // An index is several times as fast as the string's iterator.
  for (let index = 0; index < text.length; index++) {
    let character = text.charCodeAt(index)
    if ((character & 0xfc00) === 0xd800) {
      character = text.codePointAt(index) ?? 0
      if (character > 0xffff) index += 1
    }
    hash = Math.imul(hash ^ character, 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** Characters of a shingle. */
const SHINGLE_CHARACTERS = 8
/** Values of a sketch: the deviation of an estimated similarity of 0.8 is 0.035. */
const BINS = 128
/** Texts with fewer shingles are recognized by their hash alone: one word is too large a part of them. */
const MIN_SHINGLES = 120
/** Estimated part of all shingles of two texts that both have, from which on they count as one text. */
const MIN_SIMILARITY = 0.8
/** Bins that are compared first: half of them must agree, which they do for few texts. */
const FIRST_BINS = 32

/**
 * Returns a MinHash sketch of a text's shingles, which is similar for similar texts (one permutation hashing, Li et al. 2012,
 * with a byte a bin). Upper case and kinds of white space make no difference.
 *
 * @returns `BINS` bytes, 0 for an empty bin; undefined for a text that is too short
 */
export function sketchOf(text: string): Uint8Array | undefined {
  const characters = text.toLowerCase().replaceAll(/\s+/gu, ' ')
  if (characters.length < MIN_SHINGLES + SHINGLE_CHARACTERS - 1) return undefined
  const least = new Uint32Array(BINS).fill(0xffff_ffff)
  for (let at = 0; at + SHINGLE_CHARACTERS <= characters.length; at++) {
    const hash = hashOf(characters, at)
    const bin = hash & (BINS - 1)
    if (hash < (least[bin] ?? 0)) least[bin] = hash
  }
  // A byte of each value is enough: two of 255 agree by chance.
  return Uint8Array.from(least, (value) => (value === 0xffff_ffff ? 0 : 1 + ((value >>> 7) % 255)))
}

/** Returns whether two sketches are of texts that count as one. */
export function isNearDuplicate(one: Uint8Array, other: Uint8Array): boolean {
  const first = countMatches(one, other, FIRST_BINS)
  // Texts with few different shingles leave most bins empty.
  if (first.filled >= FIRST_BINS / 2 && first.matches < first.filled / 2) return false
  const { matches, filled } = countMatches(one, other, BINS)
  return filled > 0 && matches >= filled * MIN_SIMILARITY
}

/** A text by its sketch. */
export interface SketchedText {
  sketch: Uint8Array
  characters: number
}

/** Returns the estimated part of the shorter of two texts that the longer one has too, by their similarity and their lengths. */
export function sharedPart(one: SketchedText, other: SketchedText): number {
  const { matches, filled } = countMatches(one.sketch, other.sketch, BINS)
  if (filled === 0) return 0
  const similarity = matches / filled
  // The shingles that both have are s / (1 + s) of those of one and the other together.
  const shared = (similarity / (1 + similarity)) * (one.characters + other.characters)
  return shared / Math.min(one.characters, other.characters)
}

/** Counts the bins that agree, and those that are not empty in both. */
function countMatches(one: Uint8Array, other: Uint8Array, bins: number): { matches: number; filled: number } {
  let matches = 0
  let filled = 0
  for (let bin = 0; bin < bins; bin++) {
    const value = one[bin] ?? 0
    if (value === 0 && other[bin] === 0) continue
    filled += 1
    if (value === other[bin]) matches += 1
  }
  return { matches, filled }
}

/** Returns a 32-bit hash of a shingle (FNV-1a with the final mixing of MurmurHash3). */
function hashOf(text: string, from: number): number {
  let hash = 0x811c9dc5
  for (let at = from; at < from + SHINGLE_CHARACTERS; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

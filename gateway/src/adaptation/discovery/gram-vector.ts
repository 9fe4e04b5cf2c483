/** Hashed character n-grams of a text: what its spelling, its words and its layout say about its kind. */

/** Buckets that n-grams are hashed into. */
export const GRAM_BUCKETS = 4096
/** Longest n-grams, characters. */
const MAX_GRAM = 3
/** Characters of a text that are read, from its beginning. */
const MAX_CHARACTERS = 4000

/** A vector of {@link GRAM_BUCKETS} dimensions: its non-zero values, by increasing index. */
export interface SparseVector {
  indices: Uint16Array
  values: Float32Array
}

/** Returns the n-grams of one to three characters of a text as a vector of length 1: logarithms of counts, by bucket. */
export function gramVector(text: string): SparseVector {
  const counts = new Uint16Array(GRAM_BUCKETS)
  const length = Math.min(text.length, MAX_CHARACTERS)
  for (let start = 0; start < length; start++) {
    // FNV-1a over code units; the number of them is part of the hash through the rounds.
    let hash = 0x811c9dc5
    const end = Math.min(start + MAX_GRAM, length)
    for (let at = start; at < end; at++) {
      hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
      const mixed = hash ^ (hash >>> 15)
      counts[mixed & (GRAM_BUCKETS - 1)]!++
    }
  }
  const indices = Uint16Array.from([...counts.keys()].filter((bucket) => counts[bucket]! > 0))
  const values = Float32Array.from(indices, (bucket) => Math.log1p(counts[bucket]!))
  const norm = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0))
  return { indices, values: values.map((value) => value / (norm || 1)) }
}

/** Weighs n-grams by how few of the texts have them: logarithms of inverse document frequencies, by bucket. */
export function inverseFrequencies(vectors: readonly SparseVector[]): Float32Array {
  const counts = new Float32Array(GRAM_BUCKETS)
  for (const { indices } of vectors) for (const bucket of indices) counts[bucket]!++
  return counts.map((count) => Math.log((vectors.length + 1) / (count + 0.5)))
}

/** Multiplies a vector by weights of the buckets, and brings it to length 1 again. */
export function weigh({ indices, values }: SparseVector, weights: Float32Array): SparseVector {
  const weighed = values.map((value, at) => value * weights[indices[at]!]!)
  const norm = Math.sqrt(weighed.reduce((sum, value) => sum + value * value, 0)) || 1
  return { indices, values: weighed.map((value) => value / norm) }
}

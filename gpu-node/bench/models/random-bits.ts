/** Creates a seeded source of signed 32-bit numbers (xorshift32), fast enough for hundreds of millions. */
export function randomBits(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state
  }
}

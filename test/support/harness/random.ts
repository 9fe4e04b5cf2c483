/** Creates a seeded source of uniform numbers in [0, 1) (mulberry32). The same seed gives the same tests everywhere. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Returns `count` f32 draws of a normal distribution (Box-Muller). */
export function normals(random: () => number, count: number, mean: number, deviation: number): Float32Array {
  return Float32Array.from(
    { length: count },
    () => mean + deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  )
}

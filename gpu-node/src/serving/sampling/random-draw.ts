/**
 * Returns the `n`-th random number of a seed, in [0, 1) with 53 bits. A pure function, so that a sequence that restarts in
 * another process draws the same numbers.
 *
 * @param seed 32-bit
 * @see Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": Philox 4×32-10 with the
 * seed as key and `n` as counter
 */
export function randomDraw(seed: number, n: number): number {
  const [high, low] = philox([n >>> 0, Math.floor(n / 2 ** 32), 0, 0], [seed >>> 0, 0])
  return ((high >>> 5) * 2 ** 26 + (low >>> 6)) / 2 ** 53
}

type Words4 = [number, number, number, number]

/** Computes Philox 4×32 with 10 rounds; all words are unsigned 32-bit. */
export function philox(counter: Readonly<Words4>, key: readonly [number, number]): Words4 {
  let [x0, x1, x2, x3] = counter
  let [k0, k1] = key
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(0xd2511f53, x0)
    const low0 = Math.imul(0xd2511f53, x0) >>> 0
    const high1 = multiplyHigh(0xcd9e8d57, x2)
    const low1 = Math.imul(0xcd9e8d57, x2) >>> 0
    ;[x0, x1, x2, x3] = [(high1 ^ x1 ^ k0) >>> 0, low1, (high0 ^ x3 ^ k1) >>> 0, low0]
    k0 = (k0 + 0x9e3779b9) >>> 0
    k1 = (k1 + 0xbb67ae85) >>> 0
  }
  return [x0, x1, x2, x3]
}

/** Returns the upper 32 bits of the product of two unsigned 32-bit words. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + (((middle & 0xffff) + aLow * bHigh) >>> 16)) >>> 0
}

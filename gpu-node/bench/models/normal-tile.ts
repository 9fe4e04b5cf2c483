import { randomBits } from './random-bits.ts'

/** Number of values in a tile: a prime, so that no two rows of a matrix that repeats it are equal. */
const TILE_VALUES = 1_000_003

/**
 * Draws the values that a large random model repeats, approximately normal with mean 0: each is the sum of four uniform
 * draws.
 */
export function normalTile(deviation: number): Float32Array {
  const draw = randomBits(1)
  const uniform = () => draw() * 2 ** -32
  return Float32Array.from(
    { length: TILE_VALUES },
    () => (uniform() + uniform() + uniform() + uniform()) * Math.sqrt(3) * deviation,
  )
}

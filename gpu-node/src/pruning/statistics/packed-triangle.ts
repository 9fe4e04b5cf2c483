/** Rows that are mirrored together: one value of each lies side by side below the diagonal. */
const TILE_ROWS = 16

/**
 * Writes the symmetric matrix of a packed upper triangle into `square`.
 *
 * @param triangle rows of the triangle one after another, each from the diagonal on, as in statistics
 * @param square `[size, size]` row-major, overwritten
 */
export function unfoldTriangle(triangle: Float64Array, square: Float64Array, size: number): void {
  for (let row = 0, from = 0; row < size; row++) {
    const length = size - row
    square.set(triangle.subarray(from, from + length), row * size + row)
    from += length
  }
  for (let first = 0; first < size; first += TILE_ROWS) {
    for (let col = first + 1; col < size; col++) {
      const end = Math.min(first + TILE_ROWS, col)
      for (let row = first; row < end; row++) square[col * size + row] = square[row * size + col] as number
    }
  }
}

/** Returns the symmetric matrix of a packed upper triangle in a new array, `[size, size]` row-major. */
export function unfoldedTriangle(triangle: Float64Array, size: number): Float64Array {
  const square = new Float64Array(size * size)
  unfoldTriangle(triangle, square, size)
  return square
}

/**
 * Writes the symmetric matrix of a packed upper triangle into `square`.
 *
 * @param triangle rows of the triangle one after another, each from the diagonal on, as in statistics
 * @param square `[size, size]` row-major, overwritten
 */
export function unfoldTriangle(triangle: Float64Array, square: Float64Array, size: number): void {
  for (let row = 0, from = 0; row < size; row++) {
    for (let col = row; col < size; col++, from++) {
      const value = triangle[from] as number
      square[row * size + col] = value
      square[col * size + row] = value
    }
  }
}

/** Returns the symmetric matrix of a packed upper triangle in a new array, `[size, size]` row-major. */
export function unfoldedTriangle(triangle: Float64Array, size: number): Float64Array {
  const square = new Float64Array(size * size)
  unfoldTriangle(triangle, square, size)
  return square
}

/**
 * The symmetric matrix of an upper triangle that is stored row by row from the diagonal, as statistics are.
 *
 * @param square `[size, size]`, written in full
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

/** The same in an array of its own. */
export function unfoldedTriangle(triangle: Float64Array, size: number): Float64Array {
  const square = new Float64Array(size * size)
  unfoldTriangle(triangle, square, size)
  return square
}

import type { Random } from './seeded-random.ts'

const ITERATIONS = 24
/** Directions beyond those that are wanted, which make the wanted ones converge sooner. */
const EXTRA = 4

/**
 * Projects standardised rows on their principal components, relative to the deviation along the first one: directions in which
 * all texts vary count more than those in which few do.
 *
 * @param rows `[examples, size]` row-major, mean 0 in each dimension
 * @returns `[examples, components]` row-major; fewer components than wanted where there are fewer examples or dimensions
 */
export function principalComponents(
  rows: Float32Array,
  size: number,
  wanted: number,
  random: Random,
): { scores: Float64Array; components: number } {
  const n = rows.length / size
  const components = Math.max(0, Math.min(wanted, size, n - 1))
  const width = Math.min(components + EXTRA, size, n)
  // Subspace iteration on the examples' side: scores are the eigenvectors of rows × rowsᵀ.
  const scores = Float64Array.from({ length: n * width }, () => random() - 0.5)
  orthonormalise(scores, n, width)
  const directions = new Float64Array(size * width)
  for (let iteration = 0; iteration < ITERATIONS; iteration++) {
    directions.fill(0)
    for (let i = 0; i < n; i++)
      for (let d = 0; d < size; d++) {
        const value = rows[i * size + d]!
        for (let c = 0; c < width; c++) directions[d * width + c]! += value * scores[i * width + c]!
      }
    scores.fill(0)
    for (let i = 0; i < n; i++)
      for (let d = 0; d < size; d++) {
        const value = rows[i * size + d]!
        for (let c = 0; c < width; c++) scores[i * width + c]! += value * directions[d * width + c]!
      }
    orthonormalise(scores, n, width)
  }
  // Rows times these directions are scores times variances, so a direction is as long as the deviation along it.
  directions.fill(0)
  for (let i = 0; i < n; i++)
    for (let d = 0; d < size; d++)
      for (let c = 0; c < width; c++)
        directions[d * width + c]! += rows[i * size + d]! * scores[i * width + c]!
  const deviations = new Float64Array(components)
  for (let d = 0; d < size; d++)
    for (let c = 0; c < components; c++) deviations[c]! += directions[d * width + c]! ** 2
  const first = deviations[0] || 1
  const projected = new Float64Array(n * components)
  for (let i = 0; i < n; i++)
    for (let c = 0; c < components; c++)
      projected[i * components + c] = scores[i * width + c]! * Math.sqrt((n * deviations[c]!) / first)
  return { scores: projected, components }
}

/** Makes the columns of `[n, width]` orthogonal and of length 1, each by those before it (Gram-Schmidt, twice). */
function orthonormalise(matrix: Float64Array, n: number, width: number): void {
  for (let c = 0; c < width; c++) {
    for (let pass = 0; pass < 2; pass++) {
      for (let b = 0; b < c; b++) {
        let product = 0
        for (let i = 0; i < n; i++) product += matrix[i * width + c]! * matrix[i * width + b]!
        for (let i = 0; i < n; i++) matrix[i * width + c]! -= product * matrix[i * width + b]!
      }
    }
    let squares = 0
    for (let i = 0; i < n; i++) squares += matrix[i * width + c]! ** 2
    const factor = squares > 1e-24 ? 1 / Math.sqrt(squares) : 0
    for (let i = 0; i < n; i++) matrix[i * width + c]! *= factor
  }
}

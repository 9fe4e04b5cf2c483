/** Least squares with a penalty, in the dual: fast while there are fewer examples than features. */

/** A fitted machine of one output a class. */
export interface Ridge {
  /** `[examples, classes]` row-major: the weights of a class are the sum over the examples of these times their features. */
  dual: Float64Array
  /** `[examples, classes]` row-major: what the machine that was fitted without the example gives for it. */
  leftOut: Float64Array
}

/**
 * Fits `(K + λ W⁻¹) α = Y` with the targets 1 for an example's class and 0 for the others; exact predictions for each
 * example without itself come from the same inverse.
 *
 * @param kernel `[examples, examples]` row-major, symmetric: inner products of the examples' features. Overwritten.
 * @param labels class of each example
 * @param penalty λ, relative to the mean of the kernel's diagonal
 */
export function fitRidge(
  kernel: Float64Array,
  labels: readonly number[],
  classes: number,
  penalty: number,
): Ridge {
  const n = labels.length
  const counts = new Float64Array(classes)
  for (const label of labels) counts[label]!++
  let trace = 0
  for (let i = 0; i < n; i++) trace += kernel[i * n + i]!
  // Classes weigh the same, whatever the number of their examples.
  for (const [i, label] of labels.entries())
    kernel[i * n + i]! += penalty * (trace / n) * ((counts[label]! * classes) / n) + 1e-9
  const inverse = invert(kernel, n)
  const dual = new Float64Array(n * classes)
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) dual[i * classes + labels[j]!]! += inverse[i * n + j]!
  const leftOut = new Float64Array(n * classes)
  for (const [i, label] of labels.entries()) {
    const diagonal = inverse[i * n + i]!
    for (let c = 0; c < classes; c++)
      leftOut[i * classes + c] = (c === label ? 1 : 0) - dual[i * classes + c]! / diagonal
  }
  return { dual, leftOut }
}

/** Inverts a symmetric positive definite matrix through its Cholesky factor, which overwrites it. */
function invert(matrix: Float64Array, n: number): Float64Array {
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = matrix[i * n + j]!
      for (let k = 0; k < j; k++) sum -= matrix[i * n + k]! * matrix[j * n + k]!
      matrix[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-12)) : sum / matrix[j * n + j]!
    }
  }
  // Rows of the inverse of the factor, transposed so that inner loops run over neighbours.
  const factor = new Float64Array(n * n)
  for (let column = 0; column < n; column++) {
    for (let i = column; i < n; i++) {
      let sum = i === column ? 1 : 0
      for (let k = column; k < i; k++) sum -= matrix[i * n + k]! * factor[column * n + k]!
      factor[column * n + i] = sum / matrix[i * n + i]!
    }
  }
  const inverse = new Float64Array(n * n)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0
      for (let k = i; k < n; k++) sum += factor[i * n + k]! * factor[j * n + k]!
      inverse[i * n + j] = sum
      inverse[j * n + i] = sum
    }
  }
  return inverse
}

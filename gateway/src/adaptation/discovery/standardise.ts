/** Embeddings in which each dimension has the mean 0 and the variance 1. */
export interface StandardRows {
  /** `[examples, size]` row-major. */
  rows: Float32Array
  /** The mean of each dimension; a value is standardised as `(value - mean) * scale`. */
  mean: Float32Array
  /** 0 for a dimension that does not vary. */
  scale: Float32Array
}

/** Shifts and scales embeddings so that each dimension counts the same. */
export function standardise(embeddings: readonly (readonly number[])[], size: number): StandardRows {
  const n = embeddings.length
  const mean = new Float32Array(size)
  const scale = new Float32Array(size)
  for (let d = 0; d < size; d++) {
    let sum = 0
    let squares = 0
    for (const embedding of embeddings) {
      sum += embedding[d]!
      squares += embedding[d]! ** 2
    }
    mean[d] = sum / n
    const variance = squares / n - (sum / n) ** 2
    scale[d] = variance > 1e-12 ? 1 / Math.sqrt(variance) : 0
  }
  const rows = new Float32Array(n * size)
  for (const [i, embedding] of embeddings.entries())
    for (let d = 0; d < size; d++) rows[i * size + d] = (embedding[d]! - mean[d]!) * scale[d]!
  return { rows, mean, scale }
}

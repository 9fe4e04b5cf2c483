/** How unlike all labelled texts a text is, by its embedding. */

/** The texts against which novelty is measured. Rows are standardised embeddings. */
export interface Novelty {
  /** `[domains, size]` row-major: the mean of each domain that the examples have. */
  centres: Float32Array
  /** `[examples, size]` row-major: the examples, of length 1. */
  neighbours: Float32Array
  /** `[examples, size]` row-major, `L⁻¹R`: residuals R from the domains' means, and `L Lᵀ = R Rᵀ + n λ I`. */
  whitening: Float32Array
  /** `[domains, examples]` row-major: the means of the domains times the whitening. */
  projections: Float32Array
  /** The penalty λ of the covariance. */
  penalty: number
  /** Mean and deviation of the distance to a domain, and to a neighbour, over examples that were left out. */
  scales: { domain: [number, number]; neighbour: [number, number] }
  /** A text whose novelty is above is like no domain. */
  threshold: number
}

type Reference = Pick<Novelty, 'centres' | 'neighbours' | 'whitening' | 'projections' | 'penalty'>

const FOLDS = 5
/** λ relative to the mean variance of a dimension within domains: few examples say little about directions. */
const COVARIANCE_PENALTY = 1

/**
 * Fits what novelty is measured against, and the threshold, by cross-validation.
 *
 * @param rows `[examples, size]` row-major
 * @param labels domain of each example
 * @param falseRejections share of left-out examples above the threshold
 * @returns beside it, the novelty of each example that was left out
 */
export function fitNovelty(
  rows: Float32Array,
  size: number,
  labels: readonly number[],
  falseRejections: number,
): { novelty: Novelty; leftOut: number[] } {
  const all = labels.map((_, index) => index)
  const distances: [number, number][] = []
  // Examples of a domain stand together, so each fold has its share of every domain.
  for (let fold = 0; fold < FOLDS; fold++) {
    const reference = refer(
      rows,
      size,
      labels,
      all.filter((index) => index % FOLDS !== fold),
    )
    for (const index of all)
      if (index % FOLDS === fold)
        distances[index] = distancesOf(reference, rows.subarray(index * size, (index + 1) * size))
  }
  const scales = {
    domain: meanAndDeviation(distances.map(([domain]) => domain)),
    neighbour: meanAndDeviation(distances.map(([, neighbour]) => neighbour)),
  }
  const leftOut = distances.map((pair) => combine(scales, pair))
  const threshold = thresholdOf(leftOut, falseRejections)
  return { novelty: { ...refer(rows, size, labels, all), scales, threshold }, leftOut }
}

/** Returns the value that a share of the values is above. */
export function thresholdOf(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((1 - share) * sorted.length) - 1)] ?? Infinity
}

/** The novelty of a standardised embedding: how much farther it is than left-out examples, in deviations, twice. */
export function noveltyOf(novelty: Novelty, row: Float32Array): number {
  return combine(novelty.scales, distancesOf(novelty, row))
}

function combine(scales: Novelty['scales'], [domain, neighbour]: [number, number]): number {
  return (
    (domain - scales.domain[0]) / scales.domain[1] + (neighbour - scales.neighbour[0]) / scales.neighbour[1]
  )
}

/** The least Mahalanobis distance to a domain, and the least angle to an example (as a chord). */
function distancesOf(reference: Reference, row: Float32Array): [number, number] {
  const { centres, neighbours, whitening, projections, penalty } = reference
  const size = row.length
  const projected = project(row, whitening, size)
  const examples = projected.length
  let domain = Infinity
  for (let start = 0, at = 0; start < centres.length; start += size, at += examples) {
    let squares = 0
    for (let d = 0; d < size; d++) squares += (row[d]! - centres[start + d]!) ** 2
    for (let i = 0; i < examples; i++) squares -= (projected[i]! - projections[at + i]!) ** 2
    domain = Math.min(domain, Math.sqrt(Math.max(0, squares) / penalty))
  }
  const length = Math.sqrt(product(row, 0, row, 0, size)) || 1
  let nearest = -1
  for (let i = 0; i < neighbours.length; i += size)
    nearest = Math.max(nearest, product(row, 0, neighbours, i, size) / length)
  return [domain, Math.sqrt(Math.max(0, 2 - 2 * nearest))]
}

/** Multiplies each of the rows by the whitening: `[rows, examples]` row-major. */
function project(rows: Float32Array, whitening: Float32Array, size: number): Float32Array {
  const examples = whitening.length / size
  return Float32Array.from({ length: (rows.length / size) * examples }, (_, at) =>
    product(rows, Math.floor(at / examples) * size, whitening, (at % examples) * size, size),
  )
}

function refer(
  rows: Float32Array,
  size: number,
  labels: readonly number[],
  chosen: readonly number[],
): Reference {
  const n = chosen.length
  const present = [...new Set(chosen.map((index) => labels[index]!))]
  const centres = new Float32Array(present.length * size)
  for (const [at, label] of present.entries()) {
    const own = chosen.filter((index) => labels[index] === label)
    for (const index of own)
      for (let d = 0; d < size; d++) centres[at * size + d]! += rows[index * size + d]! / own.length
  }
  const residuals = new Float32Array(n * size)
  const neighbours = new Float32Array(n * size)
  for (const [i, index] of chosen.entries()) {
    const centre = present.indexOf(labels[index]!) * size
    const length = Math.sqrt(product(rows, index * size, rows, index * size, size)) || 1
    for (let d = 0; d < size; d++) {
      residuals[i * size + d] = rows[index * size + d]! - centres[centre + d]!
      neighbours[i * size + d] = rows[index * size + d]! / length
    }
  }
  const variance = product(residuals, 0, residuals, 0, n * size) / Math.max(1, n * size)
  const penalty = COVARIANCE_PENALTY * variance + 1e-6
  whiten(residuals, n, size, penalty)
  const projections = project(centres, residuals, size)
  return { centres, neighbours, whitening: residuals, projections, penalty }
}

/** Replaces R by `L⁻¹R` with `L Lᵀ = R Rᵀ + n λ I`. */
function whiten(residuals: Float32Array, n: number, size: number, penalty: number): void {
  const factor = new Float64Array(n * n)
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++)
      factor[i * n + j] =
        product(residuals, i * size, residuals, j * size, size) + (i === j ? n * penalty : 0)
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      const sum = factor[i * n + j]! - product(factor, i * n, factor, j * n, j)
      factor[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-12)) : sum / factor[j * n + j]!
    }
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < i; j++)
      for (let d = 0; d < size; d++) residuals[i * size + d]! -= factor[i * n + j]! * residuals[j * size + d]!
    for (let d = 0; d < size; d++) residuals[i * size + d]! /= factor[i * n + i]!
  }
}

/** Returns the mean of values and their standard deviation, which is never 0. */
export function meanAndDeviation(values: readonly number[]): [number, number] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length
  return [mean, Math.max(1e-6, Math.sqrt(variance))]
}

function product(
  a: Float32Array | Float64Array,
  atA: number,
  b: Float32Array | Float64Array,
  atB: number,
  length: number,
): number {
  let sum = 0
  for (let d = 0; d < length; d++) sum += a[atA + d]! * b[atB + d]!
  return sum
}

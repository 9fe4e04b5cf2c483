import type { Random } from './seeded-random.ts'

const RESTARTS = 8
const MAX_ITERATIONS = 50

/** Points in groups. */
export interface Grouping {
  /** The group of each point. */
  groups: Int32Array
  /** `[k, size]` row-major. */
  centres: Float64Array
  /** Sum of the squared distances to the centres. */
  inertia: number
}

/** Groups points around k centres (k-means++ starts, Lloyd's iterations); the best of several starts. */
export function kMeans(points: Float64Array, size: number, k: number, random: Random): Grouping {
  let best: Grouping | undefined
  for (let start = 0; start < RESTARTS; start++) {
    const grouping = iterate(points, size, spreadCentres(points, size, k, random))
    if (!best || grouping.inertia < best.inertia) best = grouping
  }
  return best!
}

/** Mean silhouette: how much nearer points are to their own group than to the next, -1 to 1; needs two groups. */
export function silhouette(points: Float64Array, size: number, groups: Int32Array, k: number): number {
  const n = groups.length
  const counts = new Float64Array(k)
  for (const group of groups) counts[group]!++
  let total = 0
  const sums = new Float64Array(k)
  for (let i = 0; i < n; i++) {
    sums.fill(0)
    for (let j = 0; j < n; j++)
      if (j !== i) sums[groups[j]!]! += Math.sqrt(distance2(points, i, points, j, size))
    const own = groups[i]!
    if (counts[own]! < 2) continue
    const inner = sums[own]! / (counts[own]! - 1)
    let outer = Infinity
    for (let c = 0; c < k; c++)
      if (c !== own && counts[c]! > 0) outer = Math.min(outer, sums[c]! / counts[c]!)
    total += (outer - inner) / Math.max(outer, inner, 1e-12)
  }
  return total / n
}

/** Squared distance of row `i` of one matrix to row `j` of another. */
export function distance2(a: Float64Array, i: number, b: Float64Array, j: number, size: number): number {
  let sum = 0
  for (let d = 0; d < size; d++) sum += (a[i * size + d]! - b[j * size + d]!) ** 2
  return sum
}

/** Draws centres among the points, each with a chance by its squared distance to those that are drawn. */
function spreadCentres(points: Float64Array, size: number, k: number, random: Random): Float64Array {
  const n = points.length / size
  const centres = new Float64Array(k * size)
  const nearest = new Float64Array(n).fill(1)
  for (let c = 0; c < k; c++) {
    let left = random() * nearest.reduce((sum, value) => sum + value, 0)
    let drawn = 0
    while (drawn < n - 1 && (left -= nearest[drawn]!) > 0) drawn++
    centres.set(points.subarray(drawn * size, (drawn + 1) * size), c * size)
    for (let i = 0; i < n; i++) {
      const distance = distance2(points, i, centres, c, size)
      nearest[i] = c === 0 ? distance : Math.min(nearest[i]!, distance)
    }
  }
  return centres
}

function iterate(points: Float64Array, size: number, centres: Float64Array): Grouping {
  const n = points.length / size
  const k = centres.length / size
  const groups = new Int32Array(n).fill(-1)
  let inertia = 0
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    let moved = false
    inertia = 0
    for (let i = 0; i < n; i++) {
      let group = 0
      let least = Infinity
      for (let c = 0; c < k; c++) {
        const distance = distance2(points, i, centres, c, size)
        if (distance < least) [least, group] = [distance, c]
      }
      moved ||= groups[i] !== group
      groups[i] = group
      inertia += least
    }
    if (!moved) break
    const counts = new Float64Array(k)
    const sums = new Float64Array(k * size)
    for (const [i, group] of groups.entries()) {
      counts[group]!++
      for (let d = 0; d < size; d++) sums[group * size + d]! += points[i * size + d]!
    }
    // A centre without points stays where it is.
    for (let c = 0; c < k; c++)
      for (let d = 0; d < size; d++)
        if (counts[c]! > 0) centres[c * size + d] = sums[c * size + d]! / counts[c]!
  }
  return { groups, centres, inertia }
}

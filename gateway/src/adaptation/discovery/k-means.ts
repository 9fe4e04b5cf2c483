import type { Random } from './seeded-random.ts'

const RESTARTS = 8
/** Random halvings of the points. */
const HALVINGS = 6
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

/**
 * How well groups of one half of the points predict those of the other (Tibshirani and Walther, 2005): of the worst group,
 * the share of pairs that the other half's centres also put together; mean over several halvings, 0 to 1.
 */
export function predictionStrength(points: Float64Array, size: number, k: number, random: Random): number {
  let total = 0
  for (let halving = 0; halving < HALVINGS; halving++) {
    const halves: [number[], number[]] = [[], []]
    for (let i = 0; i < points.length / size; i++) halves[random() < 0.5 ? 0 : 1].push(i)
    const [first, second] = halves.map((half) => {
      const chosen = new Float64Array(half.length * size)
      for (const [at, i] of half.entries()) chosen.set(points.subarray(i * size, (i + 1) * size), at * size)
      return chosen
    }) as [Float64Array, Float64Array]
    if (first.length < k * size || second.length < k * size) return 0
    const own = kMeans(second, size, k, random).groups
    const { centres } = kMeans(first, size, k, random)
    total += leastAgreement(
      own,
      own.map((_, i) => nearestCentre(second, i, centres, size).group),
      k,
    )
  }
  return total / HALVINGS
}

/** Returns the share of pairs of the worst of `k` groups that are together in the other grouping too. */
function leastAgreement(groups: Int32Array, others: Int32Array, k: number): number {
  const pairs = Array.from({ length: k }, () => new Float64Array(k))
  for (const [i, group] of groups.entries()) pairs[group]![others[i]!]!++
  let least = 1
  for (const counts of pairs) {
    const count = counts.reduce((sum, value) => sum + value, 0)
    const together = counts.reduce((sum, value) => sum + value * (value - 1), 0)
    least = Math.min(least, count < 2 ? 0 : together / (count * (count - 1)))
  }
  return least
}

function nearestCentre(points: Float64Array, i: number, centres: Float64Array, size: number) {
  let group = 0
  let least = Infinity
  for (let c = 0; c < centres.length / size; c++) {
    const distance = distance2(points, i, centres, c, size)
    if (distance < least) [least, group] = [distance, c]
  }
  return { group, distance: least }
}

/** Squared distance of row `i` of one matrix to row `j` of another. */
function distance2(a: Float64Array, i: number, b: Float64Array, j: number, size: number): number {
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
      const { group, distance } = nearestCentre(points, i, centres, size)
      moved ||= groups[i] !== group
      groups[i] = group
      inertia += distance
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

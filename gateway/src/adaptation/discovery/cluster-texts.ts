import { nameClusters, type ClusterName } from './cluster-names.ts'
import { kMeans, predictionStrength } from './k-means.ts'
import { principalComponents } from './principal-components.ts'
import { seededRandom, type Random } from './seeded-random.ts'
import { standardise } from './standardise.ts'

/** A text to cluster. */
export interface ClusterItem {
  text: string
  /** Mean dense embedding, of one size in all items. */
  embedding: readonly number[]
}

/** Settings of a clustering. */
export interface ClusterOptions {
  /** Smaller clusters are not proposed. 12 by default. */
  minSize?: number
  /** Most clusters. 12 by default. */
  maxClusters?: number
  /** Principal components by which texts are compared; 8 by default. */
  components?: number
  /** Most items; later ones stay unassigned. 1,000 by default, which bounds the time. */
  maxItems?: number
  /** Names that must not be suggested. */
  taken?: Iterable<string>
  /** The same seed and items give the same clusters. 0 by default. */
  seed?: number
}

/** Texts that are alike. */
export interface TextCluster extends ClusterName {
  /** Indices of the items, increasing. */
  members: number[]
}

/** Clusters, the largest first, and the indices of the items that belong to none. */
export interface TextClusters {
  clusters: TextCluster[]
  unassigned: number[]
}

const MIN_SIZE = 12
const MAX_CLUSTERS = 12
const COMPONENTS = 8
const MAX_ITEMS = 1000
/**
 * Clusters count when halves of the items agree on them this much, by their number: halves of one kind agree well on two
 * halves along the direction in which it varies most, but not on more.
 */
const MIN_STRENGTHS: Readonly<Record<number, number>> = { 2: 0.95, 3: 0.75 }
const MIN_STRENGTH = 0.7

/** Clusters texts by their embeddings: k-means on principal components, with as many clusters as halves agree on. */
export function clusterTexts(items: readonly ClusterItem[], options: ClusterOptions = {}): TextClusters {
  const minSize = options.minSize ?? MIN_SIZE
  const size = items[0]?.embedding.length ?? 0
  const used = items.slice(0, options.maxItems ?? MAX_ITEMS)
  if (size === 0 || used.length < minSize) return { clusters: [], unassigned: [...items.keys()] }
  const random = seededRandom(options.seed ?? 0)
  const { rows } = standardise(
    used.map(({ embedding }) => embedding),
    size,
  )
  const maxClusters = Math.min(options.maxClusters ?? MAX_CLUSTERS, Math.floor(used.length / minSize))
  const groups = findGroups(rows, size, options.components ?? COMPONENTS, maxClusters, random)
  const members = [...Map.groupBy(groups.keys(), (index) => groups[index]!).values()]
    .filter(({ length }) => length >= minSize)
    .toSorted((a, b) => b.length - a.length || a[0]! - b[0]!)
  const assigned = new Set(members.flat())
  const unassigned = [...items.keys()].filter((index) => !assigned.has(index))
  const names = nameClusters(
    members.map((cluster) => cluster.map((index) => items[index]!.text)),
    unassigned.map((index) => items[index]!.text),
    options.taken ?? [],
  )
  return { clusters: members.map((cluster, at) => ({ members: cluster, ...names[at]! })), unassigned }
}

/** Groups rows into the most clusters that are found again in halves of the rows; one where none are. */
function findGroups(
  rows: Float32Array,
  size: number,
  wanted: number,
  maxClusters: number,
  random: Random,
): Int32Array {
  const { scores, components } = principalComponents(rows, size, wanted, random)
  let groups: Int32Array = new Int32Array(rows.length / size)
  for (let k = 2; k <= maxClusters; k++)
    if (predictionStrength(scores, components, k, random) >= (MIN_STRENGTHS[k] ?? MIN_STRENGTH))
      groups = kMeans(scores, components, k, random).groups
  return groups
}

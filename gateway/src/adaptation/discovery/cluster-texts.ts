import { nameClusters, type ClusterName } from './cluster-names.ts'
import { kMeans, predictionStrength } from './k-means.ts'
import { whitenedComponents } from './principal-components.ts'
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
  /** Numbers of principal components to try; 4 and 8 by default. */
  components?: readonly number[]
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
const COMPONENTS = [4, 8]
const MAX_ITEMS = 1000
/** Clusters count when halves of the items agree on them this much; below, the items are one cluster. */
const MIN_STRENGTH = 0.8

/** Clusters texts by their embeddings: k-means on whitened principal components, with as many clusters as halves agree on. */
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

/** Groups rows into the most clusters that are found again in halves of the rows. */
function findGroups(
  rows: Float32Array,
  size: number,
  tried: readonly number[],
  maxClusters: number,
  random: Random,
): Int32Array {
  let groups: Int32Array = new Int32Array(rows.length / size)
  let most = 1
  let strongest = 0
  for (const wanted of tried) {
    const { scores, components } = whitenedComponents(rows, size, wanted, random)
    for (let k = 2; k <= maxClusters; k++) {
      const strength = predictionStrength(scores, components, k, random)
      if (strength < MIN_STRENGTH || k < most || (k === most && strength <= strongest)) continue
      most = k
      strongest = strength
      groups = kMeans(scores, components, k, random).groups
    }
  }
  return groups
}

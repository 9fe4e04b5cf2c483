import { nameClusters, type ClusterName } from './cluster-names.ts'
import { kMeans, silhouette } from './k-means.ts'
import { whitenedComponents } from './principal-components.ts'
import { seededRandom } from './seeded-random.ts'
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
  /** Principal components; 8 by default. */
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
/** Below this mean silhouette the items are one cluster. */
const MIN_SILHOUETTE = 0.15

/** Clusters texts by their embeddings: k-means on whitened principal components, with the k of the best silhouette. */
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
  const { scores, components } = whitenedComponents(rows, size, options.components ?? COMPONENTS, random)
  const maxClusters = Math.min(options.maxClusters ?? MAX_CLUSTERS, Math.floor(used.length / minSize))
  let groups = new Int32Array(used.length)
  let best = MIN_SILHOUETTE
  for (let k = 2; k <= maxClusters; k++) {
    const grouping = kMeans(scores, components, k, random)
    const quality = silhouette(scores, components, grouping.groups, k)
    if (quality > best) [best, groups] = [quality, Int32Array.from(grouping.groups)]
  }
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

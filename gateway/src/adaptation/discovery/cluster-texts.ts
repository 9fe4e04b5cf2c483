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

/** Texts that are alike. */
export interface TextCluster extends ClusterName {
  /** Indices of the items, increasing. */
  members: number[]
}

/** Smaller clusters are not proposed. */
const MIN_SIZE = 12
const MAX_CLUSTERS = 12
/** Principal components by which texts are compared. */
const COMPONENTS = 8
/** Most items, which bounds the time; later ones are in no cluster. */
const MAX_ITEMS = 1000
/**
 * Clusters count when halves of the items agree on them this much, by their number: halves of one kind agree well on two
 * halves along the direction in which it varies most, but not on more.
 */
const MIN_STRENGTHS: Readonly<Record<number, number>> = { 2: 0.95, 3: 0.75 }
const MIN_STRENGTH = 0.7

/**
 * Clusters texts by their embeddings: k-means on principal components, with as many clusters as halves agree on. The same items
 * give the same clusters.
 *
 * @param taken names that must not be suggested
 * @returns the clusters, the largest first
 */
export function clusterTexts(items: readonly ClusterItem[], taken: Iterable<string> = []): TextCluster[] {
  const size = items[0]?.embedding.length ?? 0
  const used = items.slice(0, MAX_ITEMS)
  if (size === 0 || used.length < MIN_SIZE) return []
  const random = seededRandom(0)
  const { rows } = standardise(
    used.map(({ embedding }) => embedding),
    size,
  )
  const maxClusters = Math.min(MAX_CLUSTERS, Math.floor(used.length / MIN_SIZE))
  const groups = findGroups(rows, size, maxClusters, random)
  const members = [...Map.groupBy(groups.keys(), (index) => groups[index]!).values()]
    .filter(({ length }) => length >= MIN_SIZE)
    .toSorted((a, b) => b.length - a.length || a[0]! - b[0]!)
  const assigned = new Set(members.flat())
  const names = nameClusters(
    members.map((cluster) => cluster.map((index) => items[index]!.text)),
    items.filter((_, index) => !assigned.has(index)).map(({ text }) => text),
    taken,
  )
  return members.map((cluster, at) => ({ members: cluster, ...names[at]! }))
}

/** Groups rows into the most clusters that are found again in halves of the rows; one where none are. */
function findGroups(rows: Float32Array, size: number, maxClusters: number, random: Random): Int32Array {
  const { scores, components } = principalComponents(rows, size, COMPONENTS, random)
  let groups: Int32Array = new Int32Array(rows.length / size)
  for (let k = 2; k <= maxClusters; k++)
    if (predictionStrength(scores, components, k, random) >= (MIN_STRENGTHS[k] ?? MIN_STRENGTH))
      groups = kMeans(scores, components, k, random).groups
  return groups
}

import { MAX_CACHED_KEYS, type NodePrefixes } from '@copal/shared/wire/prefix.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { PagePool } from './page-pool.ts'

/** What a caller calls the beginning of a prompt, and about how many tokens that has. */
export interface NamedPrefix {
  readonly name: string
  readonly tokens: number
}

/**
 * Names of beginnings whose pages were filled, the least recently used first; `key` is that of the last page. A page is
 * forgotten from its prefix's end, so while that one is remembered the others are.
 */
export type PrefixIndex = Map<string, { weights: WeightSet; key: string }>

/** Takes note that the pages up to that of `key` are filled; at most as many names are kept as a heartbeat tells. */
export function indexPrefix(
  named: PrefixIndex,
  pool: PagePool,
  name: string,
  page: { weights: WeightSet; key: string },
): void {
  const id = `${page.weights.version}:${name}`
  named.delete(id)
  named.set(id, page)
  if (named.size <= MAX_CACHED_KEYS) return
  dropForgotten(named, pool)
  for (const oldest of named.keys()) {
    if (named.size <= MAX_CACHED_KEYS) break
    named.delete(oldest)
  }
}

/** The names of what is remembered now, by version, the least recently used first. */
export function cachedPrefixNames(named: PrefixIndex, pool: PagePool): NodePrefixes {
  dropForgotten(named, pool)
  const byVersion = Map.groupBy(named, ([, { weights }]) => weights.version)
  return [...byVersion].map(([version, own]) => ({
    version,
    keys: own.map(([id]) => id.slice(id.indexOf(':') + 1)),
  }))
}

/** Pages are taken away, and weights go, without a word to the names. */
function dropForgotten(named: PrefixIndex, pool: PagePool): void {
  for (const [id, { weights, key }] of named) if (!pool.remembered.get(weights)?.has(key)) named.delete(id)
}

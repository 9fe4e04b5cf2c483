import { MAX_CACHED_KEYS, type NodePrefixes } from '@copal/shared/wire/prefix.ts'
import type { WeightSet } from '../contract/backend.ts'
import type { PagePool } from './page-pool.ts'

/** A prefix of a prompt: the name that its caller gives it, and its approximate length in tokens. */
export interface NamedPrefix {
  readonly name: string
  readonly tokens: number
}

/**
 * Names of prefixes whose pages were filled, the least recently used first; `key` is that of the last page. Prefixes are
 * evicted from their end, so while the last page is cached the others are.
 */
export type PrefixIndex = Map<string, { weights: WeightSet; key: string }>

/** Records that the pages up to that of `key` are filled. Keeps at most as many names as a heartbeat reports. */
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

/** Returns the names of the prefixes that are cached now, by version, the least recently used first. */
export function cachedPrefixNames(named: PrefixIndex, pool: PagePool): NodePrefixes {
  dropForgotten(named, pool)
  const byVersion = Map.groupBy(named, ([, { weights }]) => weights.version)
  return [...byVersion].map(([version, own]) => ({
    version,
    keys: own.map(([id]) => id.slice(id.indexOf(':') + 1)),
  }))
}

/** Drops names whose pages were evicted or whose weights are gone, which the index is not notified of. */
function dropForgotten(named: PrefixIndex, pool: PagePool): void {
  for (const [id, { weights, key }] of named) if (!pool.cached.get(weights)?.has(key)) named.delete(id)
}

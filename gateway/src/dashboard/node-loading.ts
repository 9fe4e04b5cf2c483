import { listNames } from '@copal/shared/phrases.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'

/** Names of domains or nodes that a problem lists. */
const MAX_NAMED = 3

/** Returns whether a node could not load a version, though it may try again. */
export function failsToLoad({ weight_sets: sets }: NodeEntry, wanted: number): boolean {
  return sets.some(
    ({ version, state, error }) =>
      version === wanted && (state === 'failed' || (state === 'loading' && typeof error === 'string')),
  )
}

/** Names domains or other things in a sentence: the first ones, and how many others there are. */
export function listFirst(names: readonly string[]): string {
  return listNames(names, MAX_NAMED)
}

/** Names nodes in a sentence: `node node-1`, `nodes node-1 and node-2`. */
export function nameNodes(nodes: readonly NodeEntry[]): string {
  return `${nodes.length === 1 ? 'node' : 'nodes'} ${listFirst(nodes.map(({ id }) => id))}`
}

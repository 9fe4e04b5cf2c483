import { listNames } from '@copal/shared/phrases.ts'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'

/** The maximum number of domains or nodes that a problem names. */
const MAX_NAMED = 3

/** Returns the first names as part of a sentence, with the number of the others. */
export function listFirst(names: readonly string[]): string {
  return listNames(names, MAX_NAMED)
}

/** Returns nodes as part of a sentence: `node node-1`, `nodes node-1 and node-2`. */
export function nameNodes(nodes: readonly NodeEntry[]): string {
  return `${nodes.length === 1 ? 'node' : 'nodes'} ${listFirst(nodes.map(({ id }) => id))}`
}

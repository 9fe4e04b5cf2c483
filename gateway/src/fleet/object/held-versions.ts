import type { FleetSnapshot } from '../../contracts/node-view.ts'
import { readyVersions } from './fleet-node.ts'

/** Returns the versions of a model that requests can name now, newest first, and how many nodes hold each; 0 is dense. */
export function heldVersions({ nodes }: FleetSnapshot, model: string): Map<number, number> {
  const able = nodes.filter((node) => node.model === model && node.alive && !node.draining)
  const versions = able.flatMap((node) => readyVersions(node)).sort((a, b) => b - a)
  const held = new Map<number, number>()
  for (const version of versions) held.set(version, (held.get(version) ?? 0) + 1)
  return held
}

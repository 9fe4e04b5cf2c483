import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import type { DomainSummary } from '@copal/shared/wire/admin-overview.ts'
import { failedToLoad } from '../fleet/registration/failed-to-load.ts'
import { listFirst, nameNodes } from './problem-names.ts'

/** Problems of the masks that single domains have for themselves. */
interface OwnMaskProblems {
  /** Sentences about masks that nodes do not serve, each with a remedy. */
  unable: string[]
  /** Sentences about masks that nodes are still loading. */
  unfinished: string[]
}

/**
 * Returns the problems of the masks that single domains have for themselves: those that a node cannot load, and those that no node
 * holds, so that their domains are served by the weights that serve the others. A mask that no node loads is named only if its
 * domain has traffic, because nodes hold the masks of the domains with the most requests. Nodes are still loading one that has just
 * been promoted, because they hear of it by their next heartbeats.
 *
 * @param ownMasks versions by domain
 * @param domains those with traffic
 * @param justPromoted versions
 */
export function ownMaskProblems(
  nodes: readonly NodeEntry[],
  ownMasks: ReadonlyMap<string, number>,
  domains: readonly Pick<DomainSummary, 'name' | 'requests'>[],
  activeVersion: number,
  justPromoted: ReadonlySet<number>,
): OwnMaskProblems {
  const serving = nodes.filter(({ alive, draining }) => alive && !draining)
  if (serving.length === 0) return { unable: [], unfinished: [] }
  const failed: string[] = []
  const missing: string[] = []
  const loading: string[] = []
  const failing = new Set<NodeEntry>()
  const busy = new Set(domains.flatMap(({ name, requests }) => (requests > 0 ? [name] : [])))
  for (const [domain, version] of ownMasks) {
    const unable = serving.filter((node) => failedToLoad(node.weight_sets, version))
    for (const node of unable) failing.add(node)
    if (unable.length > 0) failed.push(domain)
    else if (serving.some((node) => holds(node, version))) continue
    else if (justPromoted.has(version) || serving.some((node) => mayLoad(node, version))) loading.push(domain)
    else if (busy.has(domain)) missing.push(domain)
  }
  const others = activeVersion === 0 ? 'the dense weights' : 'the shared mask'
  return {
    unable: [
      ...(failed.length > 0
        ? [
            `${nameNodes([...failing])} cannot load ${ownMasksOf(failed)} (see ${failing.size === 1 ? 'the log of the node' : 'the logs of the nodes'}, or ${removal(failed)})`,
          ]
        : []),
      ...(missing.length > 0
        ? [
            `no node holds ${ownMasksOf(missing)}, so ${missing.length === 1 ? 'it is' : 'they are'} served by ${others} ` +
              `(raise COPAL_WEIGHT_BYTES of the nodes, or ${removal(missing)})`,
          ]
        : []),
    ],
    unfinished: loading.length > 0 ? [`some nodes are still loading ${ownMasksOf(loading)}`] : [],
  }
}

function holds({ weight_sets: sets }: NodeEntry, wanted: number): boolean {
  return sets.some(({ version, state }) => version === wanted && state === 'ready')
}

/** Returns whether a node may hold a version soon: it loads it, or another set first. */
function mayLoad({ weight_sets: sets }: NodeEntry, wanted: number): boolean {
  const own = sets.find(({ version }) => version === wanted)
  return (own ? [own] : sets).some(({ state, error }) => state === 'loading' && typeof error !== 'string')
}

function ownMasksOf(domains: readonly string[]): string {
  return `the own ${domains.length === 1 ? 'mask' : 'masks'} of ${listFirst(domains)}`
}

/** Returns the command that gives up the mask of a domain. */
function removal([first, ...others]: readonly string[]): string {
  return `remove ${others.length === 0 ? 'it' : 'them'}: npx copal domains mask ${others.length === 0 ? first : 'DOMAIN'} --remove`
}

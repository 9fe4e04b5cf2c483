import { spreadHash } from '../../runtime/spread-hash.ts'

/** A node as the picker sees it. */
export interface Candidate {
  readonly id: string
  readonly model: string
  /** Its heartbeats arrive, no connection to it broke since the last one, and its breaker lets requests through. */
  readonly alive: boolean
  readonly draining: boolean
  /** The version that new requests start on; `undefined` while that weight set is not ready. */
  readonly activeVersion: number | undefined
  /** All versions that are ready; a request can name any of them. */
  readonly readyVersions: readonly number[]
  /** Its running and waiting requests, as far as known. */
  readonly load: number
  /** The requests that it runs at once; further ones wait there. Infinite if that is not known. */
  readonly slots: number
  /** It has its maximum number of requests. */
  readonly full: boolean
  /** Returns how many prefix keys of the prompt are cached for a version; 0 for none. */
  cachedKeys(version: number): number
}

/** The properties of a request that decide its node. */
export interface PickRequest {
  readonly model: string
  readonly requestId: string
  /** The desired version of the model; 0 is dense. */
  readonly desiredVersion: number
  /** The version that the desired one replaces while it is rolled out; both may serve until all nodes have it. */
  readonly replacedVersion?: number | undefined
  /** The version that the request names; no other may serve it. */
  readonly version?: number | undefined
  /** Nodes that this request has already failed on. */
  readonly exclude: readonly string[]
  /** How many more requests than the least loaded node a node may have and still be preferred for its cached prefix. */
  readonly spillover: number
}

/**
 * Picks the node for one request.
 *
 * Nodes that are not alive, are draining or have no weight set ready are out. If the request names a version, nodes that
 * do not hold it are out. Otherwise, while any remaining node has the desired version active, nodes that do not are out,
 * so that a node that was away during a swap serves no traffic with replaced weights. During a roll-out the replaced version
 * counts as desired too, or else the first node would get all the traffic. Full nodes are out as well.
 *
 * Among the rest the node with the longest cached prefix wins, unless it has over `spillover` more requests than the
 * least loaded node, so that a hot prefix spreads. Without a cached prefix the least loaded node wins. Ties go to
 * rendezvous order, so that the choice depends on the request and not on the order of registration.
 *
 * @returns `undefined` when no node qualifies: the caller queues the request or rejects it.
 */
export function pickNode<T extends Candidate>(nodes: readonly T[], request: PickRequest): T | undefined {
  const able = nodes.filter((node) => canServe(node, request))
  const current =
    request.version === undefined
      ? able.filter(
          ({ activeVersion }) =>
            activeVersion === request.desiredVersion || activeVersion === request.replacedVersion,
        )
      : able
  const free = (current.length > 0 ? current : able).filter(({ full }) => !full)
  const maxLoad = Math.min(...free.map(({ load }) => load)) + request.spillover
  const cachedKeysOf = (node: T) =>
    node.load > maxLoad ? 0 : node.cachedKeys(request.version ?? node.activeVersion ?? 0)
  let best: { node: T; cached: number } | undefined
  for (const node of free) {
    const one = { node, cached: cachedKeysOf(node) }
    if (best === undefined || isBetter(one, best, request)) best = one
  }
  return best?.node
}

/**
 * Returns whether a request would lose time on a node instead of another one: only there it would wait for a slot, or the node has over
 * `spillover` more requests.
 */
export function losesTime(
  node: Pick<Candidate, 'load' | 'slots'>,
  other: Pick<Candidate, 'load' | 'slots'>,
  spillover: number,
): boolean {
  return (node.load >= node.slots && other.load < other.slots) || node.load > other.load + spillover
}

function isBetter(
  a: { node: Candidate; cached: number },
  b: { node: Candidate; cached: number },
  { requestId }: PickRequest,
): boolean {
  if (a.cached !== b.cached) return a.cached > b.cached
  if (a.node.load !== b.node.load) return a.node.load < b.node.load
  return precedes(a.node.id, b.node.id, requestId)
}

function canServe(node: Candidate, request: PickRequest): boolean {
  return (
    node.alive &&
    !node.draining &&
    node.model === request.model &&
    (request.version === undefined
      ? node.activeVersion !== undefined
      : node.readyVersions.includes(request.version)) &&
    !request.exclude.includes(node.id)
  )
}

function precedes(a: string, b: string, requestId: string): boolean {
  const weightA = spreadHash(`${a}\n${requestId}`)
  const weightB = spreadHash(`${b}\n${requestId}`)
  return weightA === weightB ? a < b : weightA > weightB
}

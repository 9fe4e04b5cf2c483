import { spreadHash } from '../../runtime/spread-hash.ts'

/** A node as the picker sees it. */
export interface Candidate {
  readonly id: string
  readonly model: string
  /** Heard of recently enough, and no request failed on it since. */
  readonly alive: boolean
  readonly draining: boolean
  /** The version that new requests start on; `undefined` while the node has no weight set ready. */
  readonly activeVersion: number | undefined
  /** Every version that is ready there: requests can name one. */
  readonly readyVersions: readonly number[]
  /** Requests running and waiting there, as well as known. */
  readonly load: number
  /** It has all the requests that it shall have now. */
  readonly full: boolean
  /** How much of the request's prompt it need not compute on a version: the more the better, 0 for nothing. */
  cachedOn(version: number): number
}

/** What is asked of the picker for one request. */
export interface Placement {
  readonly model: string
  readonly requestId: string
  /** The version that the model shall be served with; 0 is dense. */
  readonly desiredVersion: number
  /** The version that the request names: no other may answer it. */
  readonly version?: number | undefined
  /** Nodes that this request has already failed on. */
  readonly exclude: readonly string[]
  /** Requests by which a node may be busier than the least loaded one and still be preferred for what it has cached. */
  readonly spillover: number
}

/**
 * Picks the node for one request.
 *
 * Nodes that are not alive, are draining or have no weight set ready are out; for a request that names a version,
 * those that do not hold it. While any node left
 * holds the desired version, those that do not are out too, so that a node that was away during a
 * swap takes no traffic for weights that the model has left. Of the rest those that are full are out. The one that has
 * the longest beginning of the prompt cached wins, of those that are not busier than the least loaded one by more than
 * `spillover`: a hot prefix spreads. Where none has anything of it the least loaded wins; ties go to
 * rendezvous order, so that the choice depends on the request and not on who registered first.
 *
 * @returns `undefined` when no node qualifies: the caller queues or answers 503.
 */
export function pickNode<T extends Candidate>(nodes: readonly T[], placement: Placement): T | undefined {
  const able = nodes.filter((node) => canServe(node, placement))
  const current =
    placement.version === undefined
      ? able.filter((node) => node.activeVersion === placement.desiredVersion)
      : able
  const free = (current.length > 0 ? current : able).filter(({ full }) => !full)
  const mostLoad = Math.min(...free.map(({ load }) => load)) + placement.spillover
  const cachedOf = (node: T) =>
    node.load > mostLoad ? 0 : node.cachedOn(placement.version ?? node.activeVersion ?? 0)
  let best: { node: T; cached: number } | undefined
  for (const node of free) {
    const one = { node, cached: cachedOf(node) }
    if (best === undefined || isBetter(one, best, placement)) best = one
  }
  return best?.node
}

function isBetter(
  a: { node: Candidate; cached: number },
  b: { node: Candidate; cached: number },
  { requestId }: Placement,
): boolean {
  if (a.cached !== b.cached) return a.cached > b.cached
  if (a.node.load !== b.node.load) return a.node.load < b.node.load
  return precedes(a.node.id, b.node.id, requestId)
}

function canServe(node: Candidate, placement: Placement): boolean {
  return (
    node.alive &&
    !node.draining &&
    node.model === placement.model &&
    (placement.version === undefined
      ? node.activeVersion !== undefined
      : node.readyVersions.includes(placement.version)) &&
    !placement.exclude.includes(node.id)
  )
}

function precedes(a: string, b: string, requestId: string): boolean {
  const weightA = spreadHash(`${a}\n${requestId}`)
  const weightB = spreadHash(`${b}\n${requestId}`)
  return weightA === weightB ? a < b : weightA > weightB
}

import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { LeaseView } from '../../contracts/lease.ts'
import { NodeCallError, type NodeAddress } from '../../fleet/client/node-client.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import type { Alarms } from '../../runtime/alarms.ts'

/** Time between two checks: while nothing is known of the request, and the longest. */
const MIN_CHECK_INTERVAL_MS = 1_000
const MAX_CHECK_INTERVAL_MS = 15_000
/** How often a health check looks whether its time is over. */
const LOOKS_PER_HEALTH_CHECK = 10

/** A running watch over one request on its node. */
export interface LeaseWatch {
  stop(): void
}

/**
 * Watches a running request through its lease, since the gateway does not look into the response that it relays.
 *
 * The heartbeats of the node say whether the request arrived, whether it progresses, and for how long it has run without
 * a token. Requests that end within the connect timeout cost no check.
 *
 * If the node's heartbeats are missing, its `/health` is called: heartbeats may be lost while responses still arrive.
 * The lease is then extended. The request is lost if two checks in a row find the node unreachable: a gateway that did not
 * run for some seconds finds heartbeats missing that it has not read yet.
 *
 * A request without a lease may be settled, with its last bytes on their way. If its node cannot be reached for the idle
 * timeout, it is lost. So is a request of which the fleet says nothing.
 *
 * @param attempt is aborted when the request has failed; its reason is a NodeCallError
 */
export function watchLease(
  deps: Pick<Deps, 'fleet' | 'policy' | 'nodeFetch'>,
  node: NodeAddress,
  leaseId: string,
  alarms: Alarms,
  attempt: AbortController,
): LeaseWatch {
  const { policy } = deps
  const end = (why: NodeCallError) => {
    stop()
    attempt.abort(why)
  }
  let cancel = alarms.after(policy.connectMs, () => void check())
  const cancelTotal = alarms.after(policy.totalMs, () => end(totalTimeError(node, policy.totalMs)))
  let stopped = false
  const stop = () => {
    stopped = true
    cancel()
    cancelTotal()
  }
  /** When the node was first found unreachable; undefined while it responds. */
  let unreachableSinceMs: number | undefined

  async function check(): Promise<void> {
    // A fleet that does not respond says nothing about the node.
    const view = await askFleet(deps, (fleet) => fleet.leaseView(leaseId)).catch(() => undefined)
    const verdict = judgeLease(view, policy)
    const isAsked = verdict === 'silent' || verdict === 'unknown'
    const isUnreachable = isAsked && !(await isReachable(deps, node, policy.connectMs, alarms))
    if (stopped) return
    const wasUnreachable = unreachableSinceMs !== undefined
    unreachableSinceMs = isUnreachable ? (unreachableSinceMs ?? Date.now()) : undefined
    const isGone =
      verdict === 'silent'
        ? isUnreachable && wasUnreachable
        : Date.now() - (unreachableSinceMs ?? Infinity) >= policy.idleMs
    const lost = verdict === 'lost' || isGone
    if (verdict === 'late') return end(firstTokenError(node, policy.firstTokenMs))
    if (lost) return end(stalledError(node))
    if (verdict === 'silent') await askFleet(deps, (fleet) => fleet.touch(leaseId)).catch(() => undefined)
    if (stopped) return
    const isKnownToRun = view === undefined || (view.state === 'taken' && !isUnreachable)
    const intervalMs = Math.min(policy.idleMs / 3, policy.deadMs / 2, MAX_CHECK_INTERVAL_MS)
    cancel = alarms.after(isKnownToRun ? intervalMs : MIN_CHECK_INTERVAL_MS, () => void check())
  }

  return { stop }
}

/**
 * Judges a request by the state of its lease. A pure function.
 *
 * - `fine`: the request runs, or it is too early to say
 * - `unknown`: it is settled and its last bytes are on their way, or the fleet does not know
 * - `silent`: the node's heartbeats are missing
 * - `lost`: the node is alive but does not have the request, or has not worked on it for too long
 * - `late`: the request progresses but has run for too long without a token
 */
export function judgeLease(
  view: LeaseView | undefined,
  policy: Pick<FleetPolicy, 'firstTokenMs' | 'idleMs'>,
): 'fine' | 'unknown' | 'silent' | 'lost' | 'late' {
  if (!view) return 'unknown'
  if (view.silent) return 'silent'
  if (view.state !== 'taken') return view.state === 'missing' ? 'lost' : 'fine'
  if (view.idleMs >= policy.idleMs) return 'lost'
  return view.firstTokenWaitMs >= policy.firstTokenMs ? 'late' : 'fine'
}

/**
 * Returns whether a node responds to a health check in time. Time in which the gateway did not run does not count: a response that
 * came meanwhile was not read.
 */
async function isReachable(
  { nodeFetch }: Pick<Deps, 'nodeFetch'>,
  { url }: NodeAddress,
  timeoutMs: number,
  alarms: Alarms,
): Promise<boolean> {
  const late = new AbortController()
  let looks = 0
  const lookLater = () => alarms.after(timeoutMs / LOOKS_PER_HEALTH_CHECK, look)
  const look = () => {
    looks += 1
    if (looks < LOOKS_PER_HEALTH_CHECK) cancel = lookLater()
    else late.abort()
  }
  let cancel = lookLater()
  try {
    const health = new URL(`${url.replace(/\/+$/, '')}/health`)
    const response = await nodeFetch(health, { redirect: 'manual', signal: late.signal })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  } finally {
    cancel()
  }
}

function stalledError({ nodeId }: NodeAddress): NodeCallError {
  const message = `Node '${nodeId}' stopped working on this request. Try again.`
  return new NodeCallError(new AppError('node_failed', message), 'failed')
}

/** Counts as `refused`: the node still works on the request and is as healthy as before. */
function firstTokenError({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' produced no token within ${afterMs / 1000} s of starting the request. Try again, or shorten the prompt.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'refused')
}

function totalTimeError({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' took longer than ${afterMs / 1000} s, the time limit of a response. Ask for fewer tokens.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'refused')
}

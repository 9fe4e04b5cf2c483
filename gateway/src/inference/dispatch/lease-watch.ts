import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { LeaseView } from '../../contracts/lease.ts'
import { NodeCallError, type NodeAddress } from '../../fleet/client/node-client.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import type { Alarms } from '../../runtime/alarms.ts'

/** How often a request is looked at while nothing is known of it, and at most. */
const SOON_MS = 1_000
const LATER_MS = 15_000

/** Watches over one request on its node. */
export interface LeaseWatch {
  stop(): void
}

/**
 * Looks after a request whose answer passes through unseen: what its node tells in its heartbeats says whether it
 * arrived there, whether it moves, and for how long it runs without a token. Requests that end within the connect timeout
 * cost nothing.
 *
 * A node that is silent is asked itself: its heartbeats may be lost, and its answers still arrive. Its lease goes on then.
 *
 * @param attempt is aborted, with a NodeCallError as its reason, when the request is not worth waiting for
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
  const cancelTotal = alarms.after(policy.totalMs, () => end(tooLong(node, policy.totalMs)))
  let stopped = false
  const stop = () => {
    stopped = true
    cancel()
    cancelTotal()
  }

  async function check(): Promise<void> {
    // A fleet that does not answer says nothing about the node.
    const view = await askFleet(deps, (fleet) => fleet.look(leaseId)).catch(() => undefined)
    const verdict = judge(view, policy)
    const answers = verdict === 'unheard' && (await isThere(deps, node, policy.connectMs))
    if (stopped) return
    const lost = verdict === 'lost' || (verdict === 'unheard' && !answers)
    if (verdict === 'late') return end(noToken(node, policy.firstTokenMs))
    if (lost) return end(stalled(node))
    if (answers) await askFleet(deps, (fleet) => fleet.touch(leaseId)).catch(() => undefined)
    if (stopped) return
    const isSure = view === undefined || view.where === 'taken'
    const laterMs = Math.min(policy.idleMs / 3, policy.deadMs / 2, LATER_MS)
    cancel = alarms.after(isSure ? laterMs : SOON_MS, () => void check())
  }

  return { stop }
}

/**
 * What is to be thought of a request, by what is known of it: pure.
 *
 * - `fine`, also when it is settled, and its last bytes are on their way
 * - `unheard`: its node is silent
 * - `lost`: its node lives and has not got it, or has done nothing on it for too long
 * - `late`: it moves, and has run for too long without a token
 */
export function judge(
  view: LeaseView | undefined,
  policy: Pick<FleetPolicy, 'firstTokenMs' | 'idleMs'>,
): 'fine' | 'unheard' | 'lost' | 'late' {
  if (!view) return 'fine'
  if (view.silent) return 'unheard'
  if (view.where !== 'taken') return view.where === 'missing' ? 'lost' : 'fine'
  if (view.idleMs >= policy.idleMs) return 'lost'
  return view.firstTokenWaitMs >= policy.firstTokenMs ? 'late' : 'fine'
}

async function isThere(
  deps: Pick<Deps, 'nodeFetch'>,
  node: NodeAddress,
  timeoutMs: number,
): Promise<boolean> {
  try {
    const response = await deps.nodeFetch(new URL(`${node.url.replace(/\/+$/, '')}/health`), {
      redirect: 'manual',
      signal: AbortSignal.timeout(timeoutMs),
    })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

function stalled({ nodeId }: NodeAddress): NodeCallError {
  const message = `Node '${nodeId}' stopped working on this request. Try again.`
  return new NodeCallError(new AppError('node_failed', message), 'failed')
}

/** Its node works on it, and is as able as before. */
function noToken({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' had no token ${afterMs / 1000} s after it had begun. Try again, or shorten the prompt.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'refused')
}

function tooLong({ nodeId }: NodeAddress, afterMs: number): NodeCallError {
  const message = `Node '${nodeId}' took longer than ${afterMs / 1000} s, the most that an answer may take. Ask for fewer tokens.`
  return new NodeCallError(new AppError('deadline_exceeded', message), 'refused')
}

import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { FailedAttempt, NoNode } from '../../contracts/acquire.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { Admitted, Asked } from '../../contracts/fleet-object.ts'
import {
  callNode,
  NodeCallError,
  whyAborted,
  type NodeAddress,
  type NodeAnswer,
} from '../../fleet/client/node-client.ts'
import { hasPrefixKeys, prefixKeys } from '../../fleet/client/prefix-keys.ts'
import { readWhole } from '../../fleet/client/whole-response.ts'
import type { Metering } from '../../usage/limits/metering.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import { follow } from '../../runtime/linked-abort.ts'
import type { Generation } from '../../contracts/generation.ts'
import { watchLease, type LeaseWatch } from './lease-watch.ts'
import { priorityOf } from '../validation/priority.ts'
import { secondsUntilRetry, unserved } from './no-node-error.ts'

/** Tries on nodes before a request is given up. */
const MAX_ATTEMPTS = 4

/** A node that answers. */
export interface Placed {
  node: NodeAddress
  leaseId: string
  maskVersion: number
  /** A limit of its key or tenant bounds the answer, where the request names no bound. */
  bounded: boolean
  answer: NodeAnswer
  /** The whole body, of a request that is not streamed. */
  whole: Uint8Array<ArrayBuffer> | undefined
  /** Watches over the request until its answer has ended; stop it then. */
  lease: LeaseWatch
  /** Why the attempt was ended; its reason is a NodeCallError when the node is at fault. */
  ended: AbortSignal
}

type Leased = Extract<Admitted, { ok: true }>

/**
 * Finds a node for a request and waits for its first byte, or for its whole answer when it is not streamed. Until
 * then another node can do it: each try has a request id of its own, so that the receipt of a broken one cannot
 * settle another.
 *
 * @throws AppError when there is no node, NodeCallError when one failed in a way that no other mends
 */
export async function place(
  c: Context<KeyedEnv>,
  generation: Generation,
  metering: Metering,
  headers: Record<string, string>,
  signal: AbortSignal,
  alarms: Alarms,
): Promise<Placed> {
  const { deps, requestId, key } = c.var
  const { domain, promptTokens, model } = generation
  const prefix = await prefixOf(deps, key.tenant, generation)
  const exclude: string[] = []
  let last: (FailedAttempt & { error: AppError }) | undefined
  /** A node failed at it in a way that it did not foresee. */
  let baffled = false
  for (let attempt = 1; ; attempt += 1) {
    const leaseId = attempt === 1 ? requestId : `${requestId}.${attempt}`
    const acquired = await acquire(deps, signal, {
      model: model.id,
      version: model.version,
      requestId: leaseId,
      account: key.id,
      tenant: key.tenant,
      priority: priorityOf(c),
      domain,
      promptTokens,
      ...(prefix.length > 0 ? { prefix } : {}),
      exclude,
      failed: last && { requestId: last.requestId, nodeId: last.nodeId, how: last.how },
      ...(metering.wanted ? { limits: metering.wanted, answered: c.var.answered.take() } : {}),
    })
    metering.tell(acquired)
    if (!acquired.ok) {
      if (acquired.refusal) throw new Error('a refusal was not told')
      throw last
        ? lastRefusal(last, acquired)
        : await unserved(deps, key.allowedModels, generation.model, acquired)
    }
    try {
      return await tryNode(deps, key, generation, prefix, acquired, leaseId, headers, signal, alarms)
    } catch (thrown) {
      const { nodeId } = acquired
      const how = thrown instanceof NodeCallError ? thrown.how : 'refused'
      const mayRetry = thrown instanceof NodeCallError && isWorthARetry(thrown.error, baffled)
      if (!mayRetry || attempt >= MAX_ATTEMPTS) {
        deps.waitUntil(askFleet(deps, (fleet) => fleet.fail({ requestId: leaseId, nodeId, how })))
        throw thrown
      }
      baffled ||= isUnforeseen(thrown.error)
      last = { requestId: leaseId, nodeId, how, error: thrown.error }
      exclude.push(nodeId)
    }
  }
}

/** Keys of how a prompt begins; none of a short one. */
async function prefixOf(
  deps: Pick<Deps, 'prefixSalt'>,
  tenant: string,
  { promptParts }: Generation,
): Promise<readonly string[]> {
  const parts = promptParts?.() ?? []
  return hasPrefixKeys(parts) ? prefixKeys(await deps.prefixSalt(tenant), parts) : []
}

/**
 * Waits for a node, as long as somebody waits for the answer.
 *
 * Who leaves may overtake the call that asks: what that got in the end is given back once more.
 */
async function acquire(
  deps: Pick<Deps, 'fleet' | 'waitUntil'>,
  signal: AbortSignal,
  wanted: Asked,
): Promise<Admitted> {
  if (signal.aborted) throw whyAborted(signal)
  const { promise: left, reject } = Promise.withResolvers<never>()
  left.catch(() => undefined)
  const acquiring = askFleet<Admitted>(deps, (fleet) => fleet.acquire(wanted), signal)
  const abandon = () => askFleet(deps, (fleet) => fleet.abandon(wanted.requestId, wanted.limits?.requestId))
  const leave = () => {
    reject(whyAborted(signal))
    deps.waitUntil(
      Promise.all([abandon(), acquiring.then(({ ok }) => (ok ? abandon() : undefined), abandon)]),
    )
  }
  signal.addEventListener('abort', leave, { once: true })
  try {
    return await Promise.race([acquiring, left])
  } finally {
    signal.removeEventListener('abort', leave)
  }
}

async function tryNode(
  deps: Deps,
  { id: account, tenant }: { id: string; tenant: string },
  { path, model, domain, sample, keep, boundField = 'max_tokens', ...generation }: Generation,
  prefix: readonly string[],
  { nodeId, url, maskVersion, pinned, shadow, maxTokens }: Leased,
  leaseId: string,
  headers: Record<string, string>,
  signal: AbortSignal,
  alarms: Alarms,
): Promise<Placed> {
  const node = { nodeId, url }
  const attempt = follow(signal)
  const lease = watchLease(deps, node, leaseId, alarms, attempt)
  try {
    const request = { ...generation.request, model: model.id }
    const bounded = maxTokens == null ? request : { ...request, [boundField]: maxTokens }
    const named = model.version === undefined && !pinned ? {} : { maskVersion }
    const shadowed = sample && shadow !== undefined ? { shadowVersion: shadow } : {}
    // What a limit made shorter is another answer than the request asked for.
    const wish = keep && maxTokens == null ? keep : undefined
    const [attestation, responseAttestation] = await Promise.all([
      deps.attestations.issue({
        nodeId,
        what: { request: { requestId: leaseId, account, model: model.id, domain } },
      }),
      wish && deps.attestations.issue({ nodeId, what: { answer: { ...wish, tenant } } }),
    ])
    const kept = wish ? { cache: { ...wish, attestation: responseAttestation } } : {}
    const begun = prefix.length > 0 ? { prefix } : {}
    const options = { ...named, ...shadowed, ...kept, ...begun }
    const call = {
      requestId: leaseId,
      account,
      attestation,
      tenant,
      domain,
      sample,
      ...options,
      request: bounded,
    }
    const answer = await callNode(deps, node, path, call, {
      attempt,
      headers,
      expected: request.stream ? 'events' : 'json',
    })
    const whole = request.stream ? undefined : await readWhole(node, answer, attempt.signal)
    if (whole) lease.stop()
    return {
      node,
      leaseId,
      maskVersion,
      bounded: maxTokens != null,
      answer,
      whole,
      lease,
      ended: attempt.signal,
    }
  } catch (thrown) {
    lease.stop()
    throw thrown
  }
}

/**
 * A late node may still be working on the request, and another would be as late. What baffles a second node is likely
 * the request's own doing: tried everywhere it would be held against every node.
 */
function isWorthARetry(error: AppError, baffled: boolean): boolean {
  if (isUnforeseen(error)) return !baffled
  return error.retryable && error.code !== 'deadline_exceeded'
}

function isUnforeseen({ code }: AppError): boolean {
  return code === 'internal_error'
}

/** What a client is told whose request failed on a node and got no other. */
function lastRefusal(failed: FailedAttempt & { error: AppError }, none: NoNode): AppError {
  const { error } = failed
  const retryAfterS = error.retryAfterS ?? secondsUntilRetry(none)
  if (failed.how === 'broke') {
    const why =
      none.reason === 'retries'
        ? 'and too many requests fail now for this one to be tried again.'
        : 'and no other node can take the request now.'
    const message = `Node '${failed.nodeId}' went away before it answered, ${why} Try again in ${retryAfterS} s.`
    return new AppError('no_node_available', message, { cause: error, retryAfterS })
  }
  return new AppError(error.code, error.message, { cause: error, retryAfterS })
}

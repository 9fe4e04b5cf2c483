import { AppError } from '@copal/shared/errors.ts'
import type { FailedAttempt, NoNode, Priority } from '../../contracts/acquire.ts'
import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CompletedRequests } from '../../contracts/context.ts'
import type { Generation } from '../../contracts/generation.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { NodeCallError } from '../../fleet/client/node-client.ts'
import { hasPrefixKeys, prefixKeys } from '../../fleet/client/prefix-keys.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import type { Metering } from '../../usage/limits/metering.ts'
import { acquireNode } from './acquire-node.ts'
import { callAttempt, type Dispatched } from './call-attempt.ts'
import { noNodeError, secondsUntilRetry } from './no-node-error.ts'

/** Tries on nodes before a request is given up. */
const MAX_ATTEMPTS = 4

/** A request to dispatch. */
export interface DispatchRequest {
  requestId: string
  key: ActiveKey
  priority: Priority
  generation: Generation
  metering: Metering
  answered: CompletedRequests
  /** Trace headers of the calls of nodes. */
  headers: Record<string, string>
  signal: AbortSignal
  alarms: Alarms
}

/**
 * Finds a node for a request and waits for its first byte, or for its whole answer when it is not streamed. Until
 * then another node can do it: each attempt has a request id of its own, so that the receipt of a broken one cannot
 * settle another.
 *
 * @throws AppError when there is no node, NodeCallError when one failed in a way that no other mends
 */
export async function dispatch(deps: Deps, request: DispatchRequest): Promise<Dispatched> {
  const { requestId, key, priority, generation, metering, answered, headers, signal, alarms } = request
  const { domain, promptTokens, model } = generation
  const prefix = await prefixOf(deps, key.tenant, generation)
  const exclude: string[] = []
  let last: (FailedAttempt & { error: AppError }) | undefined
  /** A node failed at it in a way that it did not foresee. */
  let baffled = false
  for (let attempt = 1; ; attempt += 1) {
    const leaseId = attempt === 1 ? requestId : `${requestId}.${attempt}`
    const acquired = await acquireNode(deps, signal, {
      model: model.id,
      version: model.version,
      requestId: leaseId,
      account: key.id,
      tenant: key.tenant,
      priority,
      domain,
      promptTokens,
      ...(prefix.length > 0 ? { prefix } : {}),
      exclude,
      failed: last && { requestId: last.requestId, nodeId: last.nodeId, how: last.how },
      ...(metering.wanted ? { limits: metering.wanted, answered: answered.take() } : {}),
    })
    metering.tell(acquired)
    if (!acquired.ok) {
      if (acquired.refusal) throw new Error('a refusal was not told')
      throw last
        ? lastRefusal(last, acquired)
        : await noNodeError(deps, { allowed: key.allowedModels, name: model, none: acquired })
    }
    try {
      return await callAttempt(deps, {
        leaseId,
        leased: acquired,
        key,
        generation,
        prefix,
        headers,
        signal,
        alarms,
      })
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

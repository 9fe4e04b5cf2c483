import type { Span } from '@opentelemetry/api'
import type { AppError } from '@copal/shared/errors.ts'
import type { FailedAttempt } from '../../contracts/acquire.ts'
import type { AdmissionResult } from '../../contracts/fleet-object.ts'
import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CompletedRequests } from '../../contracts/context.ts'
import type { DomainOwners } from '../../contracts/domain-owners.ts'
import type { Generation } from '../../contracts/generation.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { NodeCallError } from '../../fleet/client/node-client.ts'
import { hasPrefixKeys, prefixKeys } from '../../fleet/client/prefix-keys.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import type { Metering } from '../../usage/limits/metering.ts'
import { acquireNode } from './acquire-node.ts'
import { conversationKey } from '../../fleet/client/conversation-key.ts'
import { callAttempt, type Dispatched } from './call-attempt.ts'
import { lastAttemptError, noNodeError } from './no-node-error.ts'

/** Attempts on nodes before a request fails. */
const MAX_ATTEMPTS = 4

/** A request to dispatch. */
export interface DispatchRequest {
  requestId: string
  key: ActiveKey
  domainOwners: DomainOwners
  generation: Generation
  metering: Metering
  completedRequests: CompletedRequests
  /** Trace headers to send with the calls to nodes. */
  headers: Record<string, string>
  /** Starts the span of an attempt, counted from 1, to lease a node. */
  startLease: (attempt: number) => Span
  signal: AbortSignal
  alarms: Alarms
}

/**
 * Finds a node for a request and waits for its first byte, or for the whole response when it is not streamed.
 *
 * Until then a failed attempt is repeated on another node. Each attempt has a request id of its own, so that the receipt
 * of a failed attempt cannot settle another one. If no other node can take the request, the client gets the error of the
 * last node, for example its own 429; see `no-node-error.ts`.
 *
 * @throws AppError when there is no node; NodeCallError when a node failed and another node would not help
 */
export async function dispatch(deps: Deps, request: DispatchRequest): Promise<Dispatched> {
  const { requestId, key, domainOwners, generation, metering, completedRequests, headers, signal, alarms } =
    request
  const { domain, priority, promptTokens, model, opening } = generation
  const conversation = conversationKey(key.id, opening)
  const prefix = await prefixKeysOf(deps, key.tenant, generation)
  const exclude: string[] = []
  let last: (FailedAttempt & { error: AppError }) | undefined
  /** True once a node failed with an internal error. */
  let failedUnexpectedly = false
  for (let attempt = 1; ; attempt += 1) {
    const rejectedRequests = metering.takeRejected()
    const leaseId = attempt === 1 ? requestId : `${requestId}.${attempt}`
    const span = request.startLease(attempt)
    const acquiring = acquireNode(deps, signal, {
      model: model.id,
      version: model.version,
      requestId: leaseId,
      account: key.id,
      tenant: key.tenant,
      conversation,
      priority,
      domain,
      promptTokens,
      ...(prefix.length > 0 ? { prefix } : {}),
      exclude,
      failed: last && { requestId: last.requestId, nodeId: last.nodeId, how: last.how },
      ...(rejectedRequests.length > 0 ? { rejectedRequests } : {}),
      ...(metering.limits ? { limits: metering.limits, completedRequests: completedRequests.take() } : {}),
    })
    const acquired = await endWithResult(span, acquiring)
    metering.applyAdmission(acquired)
    if (!acquired.ok) {
      if (acquired.rejection) throw new Error('applyAdmission must throw when a limit rejects')
      throw last
        ? lastAttemptError(last, acquired)
        : await noNodeError(deps, { key, domainOwners, name: model, none: acquired })
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
      const mayRetry = thrown instanceof NodeCallError && mayRetryElsewhere(thrown.error, failedUnexpectedly)
      if (!mayRetry || signal.aborted || attempt >= MAX_ATTEMPTS) {
        deps.waitUntil(askFleet(deps, (fleet) => fleet.fail({ requestId: leaseId, nodeId, how })))
        throw thrown
      }
      failedUnexpectedly ||= isUnexpected(thrown.error)
      last = { requestId: leaseId, nodeId, how, error: thrown.error }
      exclude.push(nodeId)
    }
  }
}

/** Ends the span of an attempt with the node that was leased, or the reason that none was. */
async function endWithResult(span: Span, acquiring: Promise<AdmissionResult>): Promise<AdmissionResult> {
  try {
    const acquired = await acquiring
    if (acquired.ok)
      span.setAttributes({
        'copal.node': acquired.nodeId,
        'copal.mask': acquired.maskVersion,
        'copal.lease.outcome': 'leased',
      })
    else
      span.setAttribute(
        'copal.lease.outcome',
        acquired.rejection ? acquired.rejection.limit : acquired.reason,
      )
    return acquired
  } finally {
    span.end()
  }
}

/** Returns the keys of a prompt's prefix; none for a short prompt. */
async function prefixKeysOf(
  deps: Pick<Deps, 'prefixSalt'>,
  tenant: string,
  { promptParts }: Generation,
): Promise<readonly string[]> {
  const parts = promptParts?.() ?? []
  return hasPrefixKeys(parts) ? prefixKeys(await deps.prefixSalt(tenant), parts) : []
}

/**
 * Returns whether a request may be tried on another node.
 *
 * Not after a deadline: the node may still be working on the request, and another node would be as late. And not after
 * a second internal error: the request itself is likely the cause, and trying it everywhere would count as a failure of
 * every node. And not where a node limits the tenant: its requests would take as much of the other nodes.
 */
function mayRetryElsewhere(error: AppError, failedUnexpectedly: boolean): boolean {
  if (isUnexpected(error)) return !failedUnexpectedly
  return error.retryable && error.code !== 'deadline_exceeded' && error.code !== 'rate_limit_exceeded'
}

function isUnexpected({ code }: AppError): boolean {
  return code === 'internal_error'
}

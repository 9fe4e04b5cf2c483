import type { ActiveKey } from '../../contracts/api-key.ts'
import { conversationNumber } from '../../adaptation/sampling/conversation.ts'
import { conversationKey } from '../../fleet/client/conversation-key.ts'
import { type NodeAddress, type NodeResponse, callNode } from '../../fleet/client/node-client.ts'
import { type LeaseWatch, watchLease } from './lease-watch.ts'
import type { AdmissionResult } from '../../contracts/fleet-object.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { Generation } from '../../contracts/generation.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import { linkAbort } from '../../runtime/linked-abort.ts'
import { readWholeResponse } from '../../fleet/client/whole-response.ts'

/** A dispatched request whose node has begun to respond. */
export interface Dispatched {
  node: NodeAddress
  leaseId: string
  maskVersion: number
  /** True if a limit of the key or tenant bounds the output, because the request names no bound itself. */
  isLimited: boolean
  response: NodeResponse
  /** The whole body; undefined for a streamed response. */
  body: Uint8Array<ArrayBuffer> | undefined
  /** Watches the request until its response has ended; the caller must stop it then. */
  lease: LeaseWatch
  /** Aborted when the attempt is ended early; the reason is a NodeCallError when the node is at fault. */
  ended: AbortSignal
}

/** One attempt to run a request on the node that it leased. */
export interface Attempt {
  leaseId: string
  leased: Extract<AdmissionResult, { ok: true }>
  /** The key and tenant that are charged. */
  key: Pick<ActiveKey, 'id' | 'tenant'>
  generation: Generation
  /** Keys of the prompt's prefix; empty for a short prompt. */
  prefix: readonly string[]
  /** Trace headers to send with the call. */
  headers: Record<string, string>
  signal: AbortSignal
  alarms: Alarms
}

/**
 * Calls the leased node and waits for its first byte, or for the whole response when it is not streamed.
 *
 * @throws NodeCallError when the node fails
 */
export async function callAttempt(deps: Deps, attempted: Attempt): Promise<Dispatched> {
  const { leaseId, leased, key, prefix, headers, signal, alarms } = attempted
  const {
    path,
    model,
    domain,
    sample,
    opening,
    cacheTarget,
    boundField = 'max_tokens',
  } = attempted.generation
  const { nodeId, url, maskVersion, pinned, shadow, maxTokens } = leased
  const { id: account, tenant } = key
  const node = { nodeId, url }
  const attempt = linkAbort(signal)
  const lease = watchLease(deps, node, leaseId, alarms, attempt)
  try {
    const request = { ...attempted.generation.request, model: model.id }
    // A limit of the key shortens the output, so the response is not the one that the request asked for.
    const target = cacheTarget && maxTokens == null ? cacheTarget : undefined
    const conversation = await conversationNumber(deps.keyPepper, conversationKey(account, opening))
    const [attestation, responseAttestation] = await Promise.all([
      deps.attestations.issue(
        { nodeId, subject: { request: { requestId: leaseId, account, model: model.id, domain } } },
        { conversation, namesWeights: model.version !== undefined },
      ),
      target && deps.attestations.issue({ nodeId, subject: { answer: { ...target, tenant } } }),
    ])
    const call = {
      requestId: leaseId,
      account,
      attestation,
      tenant,
      domain,
      sample,
      ...(model.version === undefined && !pinned ? {} : { maskVersion }),
      ...(sample && shadow !== undefined ? { shadowVersion: shadow } : {}),
      ...(target ? { cache: { ...target, attestation: responseAttestation } } : {}),
      ...(prefix.length > 0 ? { prefix } : {}),
      request: maxTokens == null ? request : { ...request, [boundField]: maxTokens },
    }
    const response = await callNode(deps, node, path, call, {
      attempt,
      headers,
      expected: request.stream ? 'events' : 'json',
    })
    const body = request.stream ? undefined : await readWholeResponse(node, response, attempt.signal)
    if (body) lease.stop()
    return {
      node,
      leaseId,
      maskVersion,
      isLimited: maxTokens != null,
      response,
      body,
      lease,
      ended: attempt.signal,
    }
  } catch (thrown) {
    lease.stop()
    throw thrown
  }
}

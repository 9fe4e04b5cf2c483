import type { ActiveKey } from '../../contracts/api-key.ts'
import { type NodeAddress, type NodeAnswer, callNode } from '../../fleet/client/node-client.ts'
import { type LeaseWatch, watchLease } from './lease-watch.ts'
import type { AdmissionResult } from '../../contracts/fleet-object.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { Generation } from '../../contracts/generation.ts'
import type { Alarms } from '../../runtime/alarms.ts'
import { linkAbort } from '../../runtime/linked-abort.ts'
import { readWholeResponse } from '../../fleet/client/whole-response.ts'

/** A dispatched request whose node has begun to answer. */
export interface Dispatched {
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

/** One attempt of a request on the node that it leased. */
export interface Attempt {
  leaseId: string
  leased: Extract<AdmissionResult, { ok: true }>
  /** Who is charged. */
  key: Pick<ActiveKey, 'id' | 'tenant'>
  generation: Generation
  /** Keys of how the prompt begins; none of a short one. */
  prefix: readonly string[]
  /** Trace headers of the call. */
  headers: Record<string, string>
  signal: AbortSignal
  alarms: Alarms
}

/**
 * Calls the leased node and waits for its first byte, or for its whole answer when it is not streamed.
 *
 * @throws NodeCallError when the node fails
 */
export async function callAttempt(deps: Deps, attempted: Attempt): Promise<Dispatched> {
  const { leaseId, leased, key, prefix, headers, signal, alarms } = attempted
  const { path, model, domain, sample, keep, boundField = 'max_tokens' } = attempted.generation
  const { nodeId, url, maskVersion, pinned, shadow, maxTokens } = leased
  const { id: account, tenant } = key
  const node = { nodeId, url }
  const attempt = linkAbort(signal)
  const lease = watchLease(deps, node, leaseId, alarms, attempt)
  try {
    const request = { ...attempted.generation.request, model: model.id }
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
    const whole = request.stream ? undefined : await readWholeResponse(node, answer, attempt.signal)
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

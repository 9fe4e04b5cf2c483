import type { Deps } from '../../contracts/bindings.ts'
import type { AdmissionRequest, AdmissionResult } from '../../contracts/fleet-object.ts'
import { abortError } from '../../fleet/client/node-client.ts'
import { askFleet, isOverloaded } from '../../fleet/client/ask-fleet.ts'

/**
 * Waits for a node until `signal` aborts.
 *
 * On abort the request is abandoned at once. The abandon call may overtake the acquire call, so a node that was
 * acquired after all is released by a second abandon call. It is abandoned, too, if no reply arrives: it may have a node.
 */
export async function acquireNode(
  deps: Pick<Deps, 'fleet' | 'waitUntil'>,
  signal: AbortSignal,
  request: AdmissionRequest,
): Promise<AdmissionResult> {
  if (signal.aborted) throw abortError(signal)
  const { promise: left, reject } = Promise.withResolvers<never>()
  left.catch(() => undefined)
  const acquiring = askFleet<AdmissionResult>(deps, (fleet) => fleet.acquire(request), signal)
  const abandon = () => askFleet(deps, (fleet) => fleet.abandon(request.requestId, request.limits?.requestId))
  /** Abandons a node that was acquired after the abort, or in a call without a reply, unless that did not reach the fleet. */
  const ending = acquiring.then(
    ({ ok }) => (ok && signal.aborted ? abandon() : undefined),
    (error: unknown) => (error instanceof Error && isOverloaded(error.cause) ? undefined : abandon()),
  )
  ending.catch(() => undefined)
  const leave = () => {
    reject(abortError(signal))
    deps.waitUntil(abandon())
  }
  signal.addEventListener('abort', leave, { once: true })
  try {
    return await Promise.race([acquiring, left])
  } catch (error) {
    deps.waitUntil(ending)
    throw error
  } finally {
    signal.removeEventListener('abort', leave)
  }
}

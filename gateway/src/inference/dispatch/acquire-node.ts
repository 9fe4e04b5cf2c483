import type { Deps } from '../../contracts/bindings.ts'
import type { AdmissionRequest, AdmissionResult } from '../../contracts/fleet-object.ts'
import { whyAborted } from '../../fleet/client/node-client.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'

/**
 * Waits for a node, as long as somebody waits for the answer.
 *
 * Who leaves may overtake the call that asks: what that got in the end is given back once more.
 */
export async function acquireNode(
  deps: Pick<Deps, 'fleet' | 'waitUntil'>,
  signal: AbortSignal,
  request: AdmissionRequest,
): Promise<AdmissionResult> {
  if (signal.aborted) throw whyAborted(signal)
  const { promise: left, reject } = Promise.withResolvers<never>()
  left.catch(() => undefined)
  const acquiring = askFleet<AdmissionResult>(deps, (fleet) => fleet.acquire(request), signal)
  const abandon = () => askFleet(deps, (fleet) => fleet.abandon(request.requestId, request.limits?.requestId))
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

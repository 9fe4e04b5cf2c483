import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CompletedRequests } from '../../contracts/context.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { AdmissionResult, LimitedRequest } from '../../contracts/fleet-object.ts'
import { limitedAccounts } from './key-limits.ts'
import { rateHeaders, limitError, limitHeaders } from './limit-rejection.ts'

/** Counts one request against the limits of its key and tenant. Does nothing if there are none. */
export interface Metering {
  /** The usage that the request reserves when it leases its node; undefined if it has no limits. */
  readonly limits: LimitedRequest | undefined
  /**
   * Sets the rate limit headers of the response.
   *
   * @throws AppError `rate_limit_exceeded` or `insufficient_quota` if a limit rejected the request
   */
  applyAdmission(result: AdmissionResult): void
  /** Records that the response was sent: its receipt settles the usage, but another request may run now. */
  completed(): void
  /** Records that there is no response. Nothing is charged, unless `receiptSettles`: the receipt then settles the usage. */
  failed(receiptSettles: boolean): void
}

/** A request to meter. */
export interface MeteredRequest extends Pick<
  LimitedRequest,
  'requestId' | 'maxTokens' | 'prompts' | 'choices'
> {
  key: ActiveKey
  completedRequests: CompletedRequests
  /** Sets a header of the response. */
  readonly setHeader: (name: string, value: string) => void
}

/** Creates the metering of one request. */
export function createMetering(
  deps: Pick<Deps, 'fleet' | 'nowMs' | 'waitUntil'>,
  { key, requestId, completedRequests, setHeader, ...usage }: MeteredRequest,
): Metering {
  const accounts = limitedAccounts(key)
  const setHeaders = (headers: Record<string, string>) => {
    for (const [name, value] of Object.entries(headers)) setHeader(name, value)
  }
  /** Whether the fleet may have a reservation. A first call without a node left none; a call without a reply may have. */
  let mayBeReserved = true
  let hadNode = false
  return {
    limits: accounts.length > 0 ? { requestId, accounts, ...usage } : undefined,
    applyAdmission(result) {
      hadNode ||= result.ok
      mayBeReserved = hadNode
      if (result.ok) return setHeaders(rateHeaders(result.rates ?? {}))
      if (!result.rejection) return
      setHeaders(limitHeaders(result.rejection))
      throw limitError(result.rejection, deps.nowMs())
    },
    completed() {
      if (accounts.some(({ limits }) => limits.concurrentRequests !== undefined))
        completedRequests.add(deps, requestId)
    },
    failed(receiptSettles) {
      if (accounts.length === 0 || !mayBeReserved) return
      deps.waitUntil(askFleet(deps, (fleet) => fleet.finish([requestId], !receiptSettles)))
    },
  }
}

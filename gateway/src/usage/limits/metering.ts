import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CompletedRequests } from '../../contracts/context.ts'
import type { KnownRejections } from '../../contracts/known-rejections.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { AdmissionResult, LimitedRequest, RejectionCount } from '../../contracts/fleet-object.ts'
import type { LimitRejection } from '../../contracts/reservation.ts'
import { limitedAccounts } from './key-limits.ts'
import { rateHeaders, limitError, limitHeaders } from './limit-rejection.ts'

/** Counts one request against the limits of its key and tenant. Does nothing if there are none. */
export interface Metering {
  /** The usage that the request reserves when it leases its node; undefined if it has no limits. */
  readonly limits: LimitedRequest | undefined
  /**
   * Rejects the request if the fleet has rejected one like it and that still holds.
   *
   * @throws as {@link applyAdmission}
   */
  rejectIfKnown(): void
  /** Returns the requests that {@link rejectIfKnown} rejected in this isolate, to be reported with this one. */
  takeRejected(): RejectionCount[]
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
  model: string
  /** The estimated number of prompt tokens. */
  promptTokens: number
  completedRequests: CompletedRequests
  knownRejections: KnownRejections
  /** Sets a header of the response. */
  readonly setHeader: (name: string, value: string) => void
}

/** Creates the metering of one request. */
export function createMetering(
  deps: Pick<Deps, 'fleet' | 'keyTrustMs' | 'nowMs' | 'waitUntil'>,
  metered: MeteredRequest,
): Metering {
  const { key, requestId, model, promptTokens, completedRequests, knownRejections, setHeader, ...usage } =
    metered
  const accounts = limitedAccounts(key)
  const size = { ...usage, model, promptTokens, tenant: key.tenant }
  const setHeaders = (headers: Record<string, string>) => {
    for (const [name, value] of Object.entries(headers)) setHeader(name, value)
  }
  /** Whether the fleet may have a reservation. A first call without a node left none; a call without a reply may have. */
  let mayBeReserved = true
  let hadNode = false
  const reject = (rejection: LimitRejection): never => {
    mayBeReserved = hadNode
    setHeaders(limitHeaders(rejection))
    throw limitError(rejection, deps.nowMs())
  }
  return {
    rejectIfKnown() {
      const rejection = accounts.length > 0 ? knownRejections.find(accounts, size, deps.nowMs()) : undefined
      if (rejection) reject(rejection)
    },
    takeRejected: () => knownRejections.takeCounts(),
    limits: accounts.length > 0 ? { requestId, accounts, ...usage } : undefined,
    applyAdmission(result) {
      hadNode ||= result.ok
      mayBeReserved = hadNode
      if (result.ok) return setHeaders(rateHeaders(result.rates ?? {}))
      if (!result.rejection) return
      const when = { nowMs: deps.nowMs(), trustMs: deps.keyTrustMs }
      knownRejections.record(accounts, size, result.rejection, when)
      reject(result.rejection)
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

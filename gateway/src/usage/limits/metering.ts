import type { ActiveKey } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CompletedRequests } from '../../contracts/context.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import type { AdmissionResult, LimitedRequest } from '../../contracts/fleet-object.ts'
import { limitedAccounts } from './key-limits.ts'
import { rateHeaders, limitError, limitHeaders } from './limit-rejection.ts'

/** Counts one request against the limits of its key and tenant; without any it does nothing. */
export interface Metering {
  /** What the request reserves together with its node; undefined when nothing limits it. */
  readonly wanted: LimitedRequest | undefined
  /**
   * Tells the client where it stands.
   *
   * @throws AppError `rate_limit_exceeded`, `insufficient_quota` when the request was refused
   */
  tell(admitted: AdmissionResult): void
  /** The answer is out: its receipt settles, but another request may run now. */
  answered(): void
  /** There is no answer; nothing is charged, unless that is the client's doing: then its receipt settles. */
  failed(receiptSettles: boolean): void
}

/** What {@link meter} needs to know of a request. */
export interface MeteredRequest extends Pick<
  LimitedRequest,
  'requestId' | 'maxTokens' | 'prompts' | 'choices'
> {
  key: ActiveKey
  answered: CompletedRequests
  /** Sets a header of the response. */
  readonly setHeader: (name: string, value: string) => void
}

/** Creates the metering of one request. */
export function meter(
  deps: Pick<Deps, 'fleet' | 'nowMs' | 'waitUntil'>,
  { key, requestId, answered, setHeader, ...use }: MeteredRequest,
): Metering {
  const accounts = limitedAccounts(key)
  const setHeaders = (headers: Record<string, string>) => {
    for (const [name, value] of Object.entries(headers)) setHeader(name, value)
  }
  /** The fleet may hold a reservation; a first call that got no node has left none, one that was not answered may have. */
  let mayHold = true
  let hadNode = false
  return {
    wanted: accounts.length > 0 ? { requestId, accounts, ...use } : undefined,
    tell(admitted) {
      hadNode ||= admitted.ok
      mayHold = hadNode
      if (admitted.ok) return setHeaders(rateHeaders(admitted.rates ?? {}))
      if (!admitted.refusal) return
      setHeaders(limitHeaders(admitted.refusal))
      throw limitError(admitted.refusal, deps.nowMs())
    },
    answered() {
      if (accounts.some(({ limits }) => limits.concurrentRequests !== undefined))
        answered.add(deps, requestId)
    },
    failed(receiptSettles) {
      if (accounts.length === 0 || !mayHold) return
      deps.waitUntil(askFleet(deps, (fleet) => fleet.finish([requestId], !receiptSettles)))
    },
  }
}

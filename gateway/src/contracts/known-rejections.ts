import type { RejectionCount } from './fleet-object.ts'
import type { LimitedAccount } from './limits.ts'
import type { LimitRejection, ReservationRequest } from './reservation.ts'

/** The parts of a request by which it exceeds a limit and its rejection is counted. */
export type MeteredSize = Pick<ReservationRequest, 'promptTokens' | 'maxTokens' | 'prompts' | 'choices'> & {
  model: string
  tenant: string
}

/** The rejections by limits that an isolate knows to hold still. */
export interface KnownRejections {
  /** Returns the rejection that a request would get from the fleet, and counts it; undefined if the fleet must decide. */
  find(accounts: readonly LimitedAccount[], size: MeteredSize, nowMs: number): LimitRejection | undefined
  /** Remembers a rejection by the fleet, at most for `trustMs`. */
  record(
    accounts: readonly LimitedAccount[],
    size: MeteredSize,
    rejection: LimitRejection,
    when: { nowMs: number; trustMs: number },
  ): void
  /** Removes and returns the counts of requests that were rejected without the fleet, for a caller that reports them. */
  takeCounts(): RejectionCount[]
}

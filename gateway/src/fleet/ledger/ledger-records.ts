import type { Slot } from './sliding-minute.ts'
import type { Rates, LimitRejection } from '../../contracts/reservation.ts'

/** A request that may run. `maxTokens`: most tokens that each choice may have, when its client named no bound and tokens are limited. */
export type ReservationResult =
  | { ok: true; maxTokens: number | null; rates: Rates }
  | { ok: false; refusal: LimitRejection }

/** A reservation, as it is kept. */
export interface Reservation {
  requestId: string
  leaseId: string
  accounts: string[]
  tokens: number
  maxTokens: number | null
  /** The slot of the minute that it was counted in. */
  second: number
  month: number
  touchedAtMs: number
}

/** An account, as it is kept. */
export interface AccountRecord {
  slots: Slot[]
  month: number
  /** Settled tokens of the month. */
  spent: number
  /** What was used before is only in its receipts; left out in records from before this was kept. */
  unreadBeforeMs?: number
}

/** What changed since it was asked last: records to store, and ids to delete. */
export interface LedgerChanges {
  accounts: Map<string, AccountRecord | undefined>
  holds: Map<string, Reservation | undefined>
}

import type { Slot } from './sliding-minute.ts'
import type { Rates, LimitRejection } from '../../contracts/reservation.ts'

/**
 * The result of a reservation. `maxTokens` bounds each choice if tokens are limited and the client sets no bound; null
 * otherwise.
 */
export type ReservationResult =
  | { ok: true; maxTokens: number | null; rates: Rates }
  | { ok: false; rejection: LimitRejection }

/** A reservation as stored. */
export interface Reservation {
  requestId: string
  leaseId: string
  accounts: string[]
  tokens: number
  maxTokens: number | null
  /** The slot of the sliding minute in which it is counted. */
  second: number
  touchedAtMs: number
}

/** An account as stored. */
export interface AccountRecord {
  slots: Slot[]
  month: number
  /** The settled tokens of the month. */
  spent: number
  /** Usage before this time is only in receipts, not in `spent`; left out in records that are older than the field. */
  unreadBeforeMs?: number
  /** The requests that ran at that time; left out if there are none, and in records that are older than the field. */
  unreadExcept?: readonly string[]
}

/** Changes of a ledger: records to store, and undefined for ids to delete. */
export interface LedgerChanges {
  accounts: Map<string, AccountRecord | undefined>
  reservations: Map<string, Reservation | undefined>
}

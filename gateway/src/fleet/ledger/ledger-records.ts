import type { Slot } from './sliding-minute.ts'
import type { Rates, LimitRejection } from '../../contracts/reservation.ts'

/**
 * The result of a reservation. `maxTokens` bounds each choice if tokens are limited and the client sets no bound; null
 * otherwise.
 */
export type ReservationResult =
  | { ok: true; maxTokens: number | null; rates: Rates }
  | { ok: false; rejection: LimitRejection }

/** A reservation as stored, or what is left of one that was settled by an estimate. */
export interface Reservation {
  requestId: string
  leaseId: string
  accounts: string[]
  tokens: number
  maxTokens: number | null
  /** The slot of the sliding minute in which it is counted. */
  second: number
  touchedAtMs: number
  /** The tokens that settled the reservation, and when; its receipt may still arrive. An open reservation has none. */
  estimate?: Charge
}

/** The tokens that a settled request was charged. */
export interface Charge {
  tokens: number
  /** The month that is charged, as in D1: the one in which it was settled. */
  month: number
  atMs: number
}

/** An account as stored. */
export interface AccountRecord {
  slots: Slot[]
  month: number
  /** The settled tokens of the month. */
  spent: number
  /** Usage before this time is only in D1, not in `spent`; left out in records that are older than the field. */
  unreadBeforeMs?: number
}

/** Changes of a ledger: records to store, and undefined for ids to delete. */
export interface LedgerChanges {
  accounts: Map<string, AccountRecord | undefined>
  reservations: Map<string, Reservation | undefined>
}

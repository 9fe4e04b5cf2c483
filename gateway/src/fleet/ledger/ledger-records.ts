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

/** The tokens that a settled request was charged. */
export interface Charge {
  tokens: number
  /** The month that is charged, as in D1: the one in which it was settled. */
  month: number
  atMs: number
}

/** A reservation that was settled, with what it was charged. Stored as long as this is an estimate that its receipt may correct. */
export interface SettledRequest extends Charge {
  reservation: Reservation
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

/** The records of a ledger that the object stores: accounts by their ids, the others by the ids of their requests. */
export interface LedgerRecords {
  accounts: ReadonlyMap<string, AccountRecord>
  reservations: ReadonlyMap<string, Reservation>
  estimates: ReadonlyMap<string, SettledRequest>
}

/** Changes of a ledger: records to store, and undefined for ids to delete. */
export type LedgerChanges = {
  [Kind in keyof LedgerRecords]: LedgerRecords[Kind] extends ReadonlyMap<string, infer Record>
    ? Map<string, Record | undefined>
    : never
}

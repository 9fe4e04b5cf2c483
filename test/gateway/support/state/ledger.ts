import type { Ledger } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import type { LimitedAccount, Limits } from '../../../../gateway/src/contracts/limits.ts'
import type {
  AccountRecord,
  Reservation,
  SettledRequest,
} from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import type { ReservationRequest } from '../../../../gateway/src/contracts/reservation.ts'

/** Start time of tests, in the middle of a month. */
export const START_MS = Date.UTC(2026, 5, 15, 12)
export const MINUTE_MS = 60_000

/** Limits of the one key. */
export const key = (limits: Limits): LimitedAccount => ({ kind: 'key', name: 'k', limits })
/** Limits of the one tenant. */
export const tenant = (limits: Limits): LimitedAccount => ({ kind: 'tenant', name: 't', limits })
/** Returns a reservation request for a hundred tokens. */
export const reservationRequest = (
  requestId: string,
  accounts: LimitedAccount[],
  changes: Partial<ReservationRequest> = {},
): ReservationRequest => ({
  requestId,
  leaseId: requestId,
  accounts,
  promptTokens: 10,
  maxTokens: 90,
  contextLength: 8192,
  ...changes,
})
/** Writes the changes of a ledger to a store in memory. */
export function storeChanges(
  ledger: Ledger,
  nowMs: number,
  into = {
    accounts: new Map<string, AccountRecord>(),
    reservations: new Map<string, Reservation>(),
    estimates: new Map<string, SettledRequest>(),
  },
) {
  const { accounts, reservations, estimates } = ledger.takeChanges(nowMs)
  const apply = <T>(changes: Map<string, T | undefined>, kept: Map<string, T>) => {
    for (const [id, value] of changes) {
      if (value === undefined) kept.delete(id)
      else kept.set(id, structuredClone(value))
    }
  }
  apply(accounts, into.accounts)
  apply(reservations, into.reservations)
  apply(estimates, into.estimates)
  return into
}

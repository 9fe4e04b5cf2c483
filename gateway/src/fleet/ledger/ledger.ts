import { accountId, accountInMonth, ownerOf, type Account } from './account.ts'
import type { LimitedAccount, UsageOwner } from '../../contracts/limits.ts'
import { monthOf, monthStartMs } from '../../runtime/month.ts'
import type {
  AccountRecord,
  Charge,
  LedgerChanges,
  LedgerRecords,
  Reservation,
  ReservationResult,
  SettledRequest,
} from './ledger-records.ts'
import type { ChargedReceipt, UnchargedUsage, ReservationRequest } from '../../contracts/reservation.ts'
import { findRejection, ratesOf, sizeReservation, type OpenedAccount } from './reservation-rules.ts'
import { SettledRequests } from './settled-requests.ts'
import { SlidingMinute } from './sliding-minute.ts'

/** The lifetime of a reservation that no node reports. */
export const RESERVATION_MS = 120_000
/** How long it is remembered what an attempt was charged without a reservation. */
const REMEMBER_UNRESERVED_MS = 30_000

/**
 * The usage and the reservations of all limited accounts. Pure: it has no clock of its own.
 *
 * A request reserves its maximum usage before it runs, and is settled once with its actual usage. So an account exceeds a
 * limit at most by the error in the estimates of running prompts, by the changes that a crash loses, and, for a month, by
 * past usage that cannot be read.
 */
export class Ledger {
  readonly #accounts = new Map<string, Account>()
  readonly #reservations = new Map<string, Reservation>()
  /** The reservations by their current attempt. */
  readonly #byLease = new Map<string, Reservation>()
  readonly #runningRequests = new Set<string>()
  readonly #settled = new SettledRequests()
  /** What attempts were charged to accounts without a reservation, by attempt. */
  readonly #unreserved = new Map<string, Charge & { accounts: string[] }>()
  #changedAccounts = new Set<string>()
  #changedReservations = new Set<string>()
  /** How many forgotten receipts D1 began to give back, and for how many that has ended. */
  #refundsBegun = 0
  #refundsEnded = 0

  /**
   * Returns the part of this month whose usage an account has not been charged yet: the time before it was seen first, or before
   * this ledger forgot it. Undefined if there is none.
   *
   * @param running returns the requests that run, of an account that is seen first
   */
  unchargedUsage(
    owner: UsageOwner,
    nowMs: number,
    running: () => readonly string[] = () => [],
  ): UnchargedUsage | undefined {
    const { unreadBeforeMs: beforeMs, unreadExcept: except } = this.#openAccount(owner, nowMs, running)
    const fromMs = monthStartMs(nowMs)
    return fromMs < beforeMs ? { fromMs, beforeMs, except, refunds: this.#refundsEnded } : undefined
  }

  /** Returns the accounts that have not been charged their past usage of this month yet, and the period of it. */
  unread(nowMs: number): { owner: UsageOwner; uncharged: UnchargedUsage }[] {
    return [...this.#accounts.keys()].flatMap((id) => {
      const owner = ownerOf(id)
      const uncharged = this.unchargedUsage(owner, nowMs)
      return uncharged ? { owner, uncharged } : []
    })
  }

  /**
   * Charges the tokens of the period that {@link unchargedUsage} returned, once.
   *
   * @returns false if they must be read again, because they may or may not contain a receipt that was given back meanwhile
   */
  chargeUsage(
    owner: UsageOwner,
    { beforeMs, refunds }: UnchargedUsage,
    tokens: number,
    nowMs: number,
  ): boolean {
    if (this.unchargedUsage(owner, nowMs)?.beforeMs !== beforeMs) return true
    if (refunds !== this.#refundsBegun) return false
    const opened = this.#openAccount(owner, nowMs)
    Object.assign(opened, { unreadBeforeMs: 0, unreadExcept: [] })
    opened.spent += tokens
    this.#changedAccounts.add(accountId(owner))
    return true
  }

  /** Reserves usage, or rejects the request without using any. A later attempt takes over the request's reservation. */
  reserve(request: ReservationRequest, nowMs: number): ReservationResult {
    const known = this.#reservations.get(request.requestId) ?? this.#reopen(request.requestId, nowMs)
    if (known) {
      this.#byLease.delete(known.leaseId)
      known.leaseId = request.leaseId
      known.touchedAtMs = nowMs
      this.#byLease.set(known.leaseId, known)
      this.#changedReservations.add(known.requestId)
      return {
        ok: true,
        maxTokens: known.maxTokens,
        rates: ratesOf(this.#opened(request.accounts, nowMs), nowMs),
      }
    }
    const opened = this.#opened(request.accounts, nowMs)
    const { tokens, maxTokens } = sizeReservation(request, opened, nowMs)
    const rejection = findRejection(opened, tokens, nowMs)
    if (rejection) return { ok: false, rejection: { ...rejection, rates: ratesOf(opened, nowMs) } }
    const accounts = request.accounts.map(accountId)
    let second = 0
    for (const account of this.#accountsOf(accounts, nowMs)) {
      second = account.minute.add(nowMs, 1, tokens)
      account.reserved += tokens
      account.running += 1
    }
    const { requestId, leaseId } = request
    const reservation: Reservation = {
      requestId,
      leaseId,
      accounts,
      tokens,
      maxTokens,
      second,
      touchedAtMs: nowMs,
    }
    this.#add(reservation)
    this.#changedReservations.add(requestId)
    for (const id of accounts) this.#changedAccounts.add(id)
    return { ok: true, maxTokens, rates: ratesOf(opened, nowMs) }
  }

  /**
   * Settles a current attempt with its usage. Other attempts and settled requests are ignored, but an estimate is replaced
   * once.
   */
  settle(leaseId: string, tokens: number, nowMs: number): void {
    const reservation = this.#byLease.get(leaseId)
    if (reservation) this.#settle(reservation, tokens, false, nowMs)
    const estimate = reservation ? undefined : this.#settled.findAttempt(leaseId)
    if (!estimate || !this.#settled.isEstimate(estimate)) return
    this.#charge(estimate.reservation, tokens - estimate.tokens, nowMs)
    // The month of the estimate has ended: this one has the receipt alone.
    if (estimate.month !== monthOf(nowMs))
      for (const account of this.#accountsOf(estimate.reservation.accounts, nowMs))
        account.spent += estimate.tokens
    this.#settled.correct(estimate, { tokens, month: monthOf(nowMs) })
  }

  /**
   * Charges the usage of an attempt to those of its accounts that have no reservation for it: they had no limits when it
   * started, and their month must be complete if limits return. Accounts that are not known are charged from receipts then.
   */
  chargeUnlimited(leaseId: string, owners: readonly string[], tokens: number, nowMs: number): void {
    const reserved = this.#byLease.get(leaseId)?.accounts ?? []
    const accounts = owners.filter((id) => this.#accounts.has(id) && !reserved.includes(id))
    if (accounts.length === 0) return
    this.#spend(accounts, tokens, nowMs)
    this.#unreserved.set(leaseId, { accounts, tokens, month: monthOf(nowMs), atMs: nowMs })
  }

  /** Gives back what {@link chargeUnlimited} charged for an attempt whose output reached no client. */
  refundUnlimited(leaseId: string, nowMs: number): void {
    const charged = this.#unreserved.get(leaseId)
    if (charged?.month === monthOf(nowMs)) this.#spend(charged.accounts, -charged.tokens, nowMs)
    this.#unreserved.delete(leaseId)
  }

  /** Returns whether the ledger knows by itself what an attempt was charged, or that it was charged nothing yet. */
  remembers(leaseId: string): boolean {
    return (
      this.#byLease.has(leaseId) ||
      this.#unreserved.has(leaseId) ||
      this.#settled.findAttempt(leaseId) !== undefined
    )
  }

  /** Charges nothing for an attempt whose client got no output. The next attempt, if there is one, has taken over its reservation. */
  giveBack(leaseId: string, nowMs: number): void {
    this.refundUnlimited(leaseId, nowMs)
    const reservation = this.#byLease.get(leaseId)
    if (reservation) this.#settle(reservation, 0, false, nowMs)
    else this.#refund(this.#settled.findAttempt(leaseId), nowMs)
  }

  /** Runs what takes a receipt out of D1 that this ledger does not remember, and {@link refundReceipt} with it. */
  async whileRefunding(work: () => Promise<void>): Promise<void> {
    this.#refundsBegun += 1
    try {
      await work()
    } finally {
      this.#refundsEnded += 1
    }
  }

  /** Gives back what a receipt has charged, which this ledger does not remember, to the accounts whose month includes it. */
  refundReceipt({ owners, tokens, atMs }: ChargedReceipt, nowMs: number): void {
    if (monthOf(atMs) !== monthOf(nowMs)) return
    const ids = owners.map(accountId)
    const charged = ids.filter((id) => atMs >= (this.#accounts.get(id)?.unreadBeforeMs ?? Infinity))
    this.#spend(charged, -tokens, nowMs)
  }

  /** Removes a reservation as if the request had never arrived, because it got no node. */
  cancel(requestId: string, nowMs: number): void {
    const reservation = this.#reservations.get(requestId)
    if (!reservation) return
    this.#settled.delete(this.#settle(reservation, 0, false, nowMs))
    for (const account of this.#accountsOf(reservation.accounts, nowMs))
      account.minute.correct(reservation.second, -1, 0)
  }

  /** Ends a running request. If its client got no output it is settled with no usage, otherwise it awaits its receipt. */
  finish(requestId: string, gaveNothing: boolean, nowMs: number): void {
    const reservation = this.#reservations.get(requestId)
    if (!reservation) return gaveNothing ? this.#refund(this.#settled.find(requestId), nowMs) : undefined
    this.#stop(reservation, nowMs)
    if (gaveNothing) this.#settle(reservation, 0, false, nowMs)
  }

  /** Renews the reservations of attempts that a node reported. */
  renew(leaseIds: readonly string[], nowMs: number): void {
    for (const leaseId of leaseIds) {
      const reservation = this.#byLease.get(leaseId)
      if (reservation) reservation.touchedAtMs = nowMs
    }
  }

  /** Settles attempts that will get no receipt, with the known tokens or all reserved ones. */
  expire(leaseIds: readonly string[], nowMs: number, tokens?: number): void {
    for (const leaseId of leaseIds) {
      const reservation = this.#byLease.get(leaseId)
      if (reservation) this.#settle(reservation, tokens ?? reservation.tokens, true, nowMs)
    }
  }

  /**
   * Expires reservations that no node reports, and forgets data that is no longer needed.
   *
   * @param isOpen returns whether an attempt has a lease or waits for one: its reservation stays
   */
  sweep(nowMs: number, isOpen: (leaseId: string) => boolean): void {
    const lost = [...this.#reservations.values()].filter(
      ({ leaseId, touchedAtMs }) => nowMs - touchedAtMs >= RESERVATION_MS && !isOpen(leaseId),
    )
    this.expire(
      lost.map(({ leaseId }) => leaseId),
      nowMs,
    )
    this.#settled.sweep(nowMs)
    for (const [leaseId, { atMs }] of this.#unreserved)
      if (nowMs - atMs >= REMEMBER_UNRESERVED_MS) this.#unreserved.delete(leaseId)
    const month = monthOf(nowMs)
    const inUse = new Set([...this.#reservations.values()].flatMap(({ accounts }) => accounts))
    for (const [id, account] of this.#accounts) {
      const idle = account.minute.slots(nowMs).length === 0 && !inUse.has(id)
      if (!idle || (account.month === month && account.spent > 0)) continue
      this.#accounts.delete(id)
      this.#changedAccounts.add(id)
    }
  }

  /** True if there is nothing that can expire. */
  get empty(): boolean {
    return this.#reservations.size === 0 && this.#accounts.size === 0 && this.#settled.size === 0
  }

  /** Returns and clears the changes to store since the last call. */
  takeChanges(nowMs: number): LedgerChanges {
    const account = (id: string): AccountRecord | undefined => {
      const found = this.#accounts.get(id)
      if (!found) return undefined
      const { minute, month, spent, unreadBeforeMs } = found
      return { slots: minute.slots(nowMs), month, spent, unreadBeforeMs }
    }
    const accounts = new Map([...this.#changedAccounts].map((id) => [id, account(id)]))
    const reservations = new Map([...this.#changedReservations].map((id) => [id, this.#reservations.get(id)]))
    this.#changedAccounts = new Set()
    this.#changedReservations = new Set()
    return { accounts, reservations, estimates: this.#settled.takeChanges() }
  }

  /** Returns changes of {@link takeChanges} that could not be stored; the next call includes them again. */
  returnChanges({ accounts, reservations, estimates }: LedgerChanges): void {
    for (const id of accounts.keys()) this.#changedAccounts.add(id)
    for (const requestId of reservations.keys()) this.#changedReservations.add(requestId)
    this.#settled.returnChanges(estimates)
  }

  /** Restores stored records. Reservations count as reported now, because nodes could not report them meanwhile. */
  restore({ accounts, reservations, estimates }: LedgerRecords, nowMs: number): void {
    for (const [id, { slots, month, spent, unreadBeforeMs = 0 }] of accounts) {
      const minute = new SlidingMinute(slots)
      const unread = { unreadBeforeMs, unreadExcept: [] }
      this.#accounts.set(id, { minute, month, spent, reserved: 0, running: 0, ...unread })
    }
    for (const reservation of reservations.values()) {
      for (const account of this.#accountsOf(reservation.accounts, nowMs)) {
        account.reserved += reservation.tokens
        account.running += 1
      }
      this.#add({ ...reservation, touchedAtMs: nowMs })
    }
    for (const settled of estimates.values()) this.#settled.restore(settled)
  }

  #add(reservation: Reservation): void {
    this.#reservations.set(reservation.requestId, reservation)
    this.#byLease.set(reservation.leaseId, reservation)
    this.#runningRequests.add(reservation.requestId)
  }

  #settle(reservation: Reservation, tokens: number, isEstimate: boolean, nowMs: number): SettledRequest {
    this.#stop(reservation, nowMs)
    this.#reservations.delete(reservation.requestId)
    this.#byLease.delete(reservation.leaseId)
    this.#changedReservations.add(reservation.requestId)
    // The reservation counts in the minute already, but not in the month.
    for (const account of this.#accountsOf(reservation.accounts, nowMs)) {
      account.reserved -= reservation.tokens
      account.spent += reservation.tokens
    }
    this.#charge(reservation, tokens - reservation.tokens, nowMs)
    const settled = { reservation, tokens, month: monthOf(nowMs), atMs: nowMs }
    this.#settled.add(settled, isEstimate)
    return settled
  }

  /** Corrects the tokens that a settled request is charged. */
  #charge({ accounts, second }: Reservation, tokens: number, nowMs: number): void {
    for (const account of this.#accountsOf(accounts, nowMs)) account.minute.correct(second, 0, tokens)
    this.#spend(accounts, tokens, nowMs)
  }

  /** Adds tokens to the month of accounts. */
  #spend(accounts: readonly string[], tokens: number, nowMs: number): void {
    for (const account of this.#accountsOf(accounts, nowMs)) account.spent += tokens
    for (const id of accounts) this.#changedAccounts.add(id)
  }

  /** Gives the tokens of a settled request back, whose receipt came before the gateway knew that its response was lost. */
  #refund(settled: SettledRequest | undefined, nowMs: number): void {
    if (settled?.month !== monthOf(nowMs)) return
    this.#charge(settled.reservation, -settled.tokens, nowMs)
    this.#settled.correct(settled, { tokens: 0 })
  }

  /** Reopens a settled reservation, because the receipt of a failed attempt can arrive before the next attempt. */
  #reopen(requestId: string, nowMs: number): Reservation | undefined {
    const settled = this.#settled.find(requestId)
    if (!settled) return undefined
    const { reservation, tokens, month } = settled
    this.#settled.delete(settled)
    for (const account of this.#accountsOf(reservation.accounts, nowMs)) {
      account.minute.correct(reservation.second, 0, reservation.tokens - tokens)
      account.running += 1
      account.reserved += reservation.tokens
      if (account.month === month) account.spent -= tokens
    }
    for (const id of reservation.accounts) this.#changedAccounts.add(id)
    this.#add(reservation)
    return reservation
  }

  #stop(reservation: Reservation, nowMs: number): void {
    if (!this.#runningRequests.delete(reservation.requestId)) return
    for (const account of this.#accountsOf(reservation.accounts, nowMs)) account.running -= 1
  }

  #accountsOf(ids: readonly string[], nowMs: number): Account[] {
    return ids.flatMap((id) => {
      const account = this.#accounts.get(id)
      return account ? [accountInMonth(account, nowMs)] : []
    })
  }

  /** Returns an account, and creates it if it is new. */
  #openAccount(owner: UsageOwner, nowMs: number, running: () => readonly string[] = () => []): Account {
    const id = accountId(owner)
    const found = this.#accounts.get(id)
    if (found) return accountInMonth(found, nowMs)
    const minute = new SlidingMinute()
    const unread = { unreadBeforeMs: nowMs, unreadExcept: running() }
    const opened = { minute, month: monthOf(nowMs), spent: 0, reserved: 0, running: 0, ...unread }
    this.#accounts.set(id, opened)
    this.#changedAccounts.add(id)
    return opened
  }

  /** Returns accounts with their usage, and creates those that are new. */
  #opened(accounts: readonly LimitedAccount[], nowMs: number): OpenedAccount[] {
    return accounts.map((account) => ({ ...account, account: this.#openAccount(account, nowMs) }))
  }
}

import { accountId, accountInMonth, type Account } from './account.ts'
import type { LimitedAccount, Limits } from '../../contracts/limits.ts'
import { monthOf, monthStartMs } from '../../runtime/month.ts'
import type { AccountRecord, Reservation, LedgerChanges, ReservationResult } from './ledger-records.ts'
import type {
  Rate,
  Rates,
  LimitRejection,
  UnreadUsage,
  ReservationRequest,
  Unit,
} from '../../contracts/reservation.ts'
import { SlidingMinute } from './sliding-minute.ts'

/** Tokens that are reserved for an answer whose client names no bound; it gets no more than these. */
export const DEFAULT_COMPLETION_TOKENS = 4_096
/** With fewer left, such a request waits instead of being cut short. */
export const LEAST_COMPLETION_TOKENS = 256
/** How long a reservation lives that nobody tells of. */
export const HOLD_MS = 120_000
/** How long a settled request is remembered, for a retry of it: thousands a second may be settled. */
const REMEMBER_MS = 30_000
/** The same of one that was settled by an estimate, for the receipt that corrects it. */
const REMEMBER_ESTIMATE_MS = 600_000
/** When to come back for what requests in flight may give back. */
const IN_FLIGHT_MS = 2_000

interface Settled {
  hold: Reservation
  tokens: number
  atMs: number
}

/**
 * Who used how much, and what is reserved: pure, without a clock of its own.
 *
 * A request is reserved with the most that it can use, before it runs, and settled once with what it used. So an
 * account is over a limit by no more than the error in the estimates of the prompts that are in flight, what a crash
 * loses of the last moment, and, of a month, what its receipts tell that cannot be read.
 */
export class Ledger {
  readonly #accounts = new Map<string, Account>()
  readonly #holds = new Map<string, Reservation>()
  /** By the attempt that counts. */
  readonly #byLease = new Map<string, Reservation>()
  readonly #running = new Set<string>()
  readonly #settled = new Map<string, Settled>()
  /** Of those, by attempt, the ones whose receipt may still come. */
  readonly #estimates = new Map<string, Settled>()
  #changedAccounts = new Set<string>()
  #changedHolds = new Set<string>()

  /**
   * The receipts of this month that an account whose month is limited is still to be charged: what it used before it was
   * seen, or before this ledger forgot it. Undefined when there are none.
   */
  unread(account: LimitedAccount, nowMs: number): UnreadUsage | undefined {
    if (account.limits.tokensPerMonth === undefined) return undefined
    const fromMs = monthStartMs(nowMs)
    const beforeMs = this.#open(account, nowMs).unreadBeforeMs
    return fromMs < beforeMs ? { fromMs, beforeMs } : undefined
  }

  /** Charges the tokens of what was {@link unread}, once. */
  read(account: LimitedAccount, { beforeMs }: UnreadUsage, tokens: number, nowMs: number): void {
    if (this.unread(account, nowMs)?.beforeMs !== beforeMs) return
    const opened = this.#open(account, nowMs)
    opened.unreadBeforeMs = 0
    opened.spent += tokens
    this.#changedAccounts.add(accountId(account))
  }

  /** Reserves, or refuses without consuming anything. Another attempt of a request takes over what it has. */
  reserve(wanted: ReservationRequest, nowMs: number): ReservationResult {
    const known = this.#holds.get(wanted.requestId) ?? this.#reopen(wanted.requestId)
    if (known) {
      this.#byLease.delete(known.leaseId)
      known.leaseId = wanted.leaseId
      known.touchedAtMs = nowMs
      this.#byLease.set(known.leaseId, known)
      this.#changedHolds.add(known.requestId)
      return { ok: true, maxTokens: known.maxTokens, rates: this.#rates(wanted.accounts, nowMs) }
    }
    const month = monthOf(nowMs)
    for (const account of wanted.accounts) this.#open(account, nowMs)
    const { tokens, maxTokens } = this.#size(wanted, nowMs)
    const refusal = this.#refusal(wanted.accounts, tokens, nowMs)
    if (refusal) return { ok: false, refusal: { ...refusal, rates: this.#rates(wanted.accounts, nowMs) } }
    const accounts = wanted.accounts.map(accountId)
    let second = 0
    for (const account of this.#each(accounts, nowMs)) {
      second = account.minute.add(nowMs, 1, tokens)
      account.held += tokens
      account.open += 1
    }
    const { requestId, leaseId } = wanted
    const hold: Reservation = {
      requestId,
      leaseId,
      accounts,
      tokens,
      maxTokens,
      second,
      month,
      touchedAtMs: nowMs,
    }
    this.#keep(hold)
    this.#changedHolds.add(requestId)
    for (const id of accounts) this.#changedAccounts.add(id)
    return { ok: true, maxTokens, rates: this.#rates(wanted.accounts, nowMs) }
  }

  /**
   * Settles the attempt that counts with what it used; other attempts and what was settled are left alone. What was
   * only estimated gives way once.
   */
  settle(leaseId: string, tokens: number, nowMs: number): void {
    const hold = this.#byLease.get(leaseId)
    if (hold) return this.#settle(hold, tokens, false, nowMs)
    const estimate = this.#estimates.get(leaseId)
    if (!estimate) return
    this.#estimates.delete(leaseId)
    this.#charge(estimate.hold, tokens - estimate.tokens, nowMs)
    estimate.tokens = tokens
  }

  /**
   * Charges what an attempt used to those of its owners that it was not reserved for: their limits were off when it came,
   * and their month is to be whole when these are back. Owners that are not known are read from receipts then.
   */
  chargeUnlimited(leaseId: string, owners: readonly string[], tokens: number, nowMs: number): void {
    const reserved = this.#byLease.get(leaseId)?.accounts ?? []
    for (const id of owners) {
      const account = this.#accounts.get(id)
      if (!account || reserved.includes(id)) continue
      accountInMonth(account, nowMs).spent += tokens
      this.#changedAccounts.add(id)
    }
  }

  /** Takes a reservation back as if the request had never come: nobody could take it. */
  cancel(requestId: string, nowMs: number): void {
    const hold = this.#holds.get(requestId)
    if (!hold) return
    this.#settle(hold, 0, false, nowMs)
    this.#settled.delete(requestId)
    for (const account of this.#each(hold.accounts, nowMs)) account.minute.correct(hold.second, -1, 0)
  }

  /** A request runs no more; one that gave its client nothing is settled with nothing, others wait for their receipt. */
  finish(requestId: string, gaveNothing: boolean, nowMs: number): void {
    const hold = this.#holds.get(requestId)
    if (!hold) return
    this.#stop(hold, nowMs)
    if (gaveNothing) this.#settle(hold, 0, false, nowMs)
  }

  /** Reservations of attempts that a node told of live on. */
  renew(leaseIds: readonly string[], nowMs: number): void {
    for (const leaseId of leaseIds) {
      const hold = this.#byLease.get(leaseId)
      if (hold) hold.touchedAtMs = nowMs
    }
  }

  /** Settles attempts whose receipt will not come: with the tokens that are known, or all that was reserved. */
  expire(leaseIds: readonly string[], nowMs: number, tokens?: number): void {
    for (const leaseId of leaseIds) {
      const hold = this.#byLease.get(leaseId)
      if (hold) this.#settle(hold, tokens ?? hold.tokens, true, nowMs)
    }
  }

  /** Expires reservations that nobody told of for long, unless they are leased, and forgets what is of no more use. */
  sweep(nowMs: number, isLeased: (leaseId: string) => boolean): void {
    const lost = [...this.#holds.values()].filter(
      ({ leaseId, touchedAtMs }) => nowMs - touchedAtMs >= HOLD_MS && !isLeased(leaseId),
    )
    this.expire(
      lost.map(({ leaseId }) => leaseId),
      nowMs,
    )
    for (const [requestId, { atMs, hold }] of this.#settled) {
      if (nowMs - atMs < (this.#estimates.has(hold.leaseId) ? REMEMBER_ESTIMATE_MS : REMEMBER_MS)) continue
      this.#settled.delete(requestId)
      this.#estimates.delete(hold.leaseId)
    }
    const month = monthOf(nowMs)
    const inUse = new Set([...this.#holds.values()].flatMap(({ accounts }) => accounts))
    for (const [id, account] of this.#accounts) {
      const idle = account.minute.slots(nowMs).length === 0 && !inUse.has(id)
      if (!idle || (account.month === month && account.spent > 0)) continue
      this.#accounts.delete(id)
      this.#changedAccounts.add(id)
    }
  }

  /** True while there is nothing that could expire. */
  get empty(): boolean {
    return this.#holds.size === 0 && this.#accounts.size === 0
  }

  /** What to store, since it was asked last. */
  takeChanges(nowMs: number): LedgerChanges {
    const record = (id: string): AccountRecord | undefined => {
      const account = this.#accounts.get(id)
      if (!account) return undefined
      const { minute, month, spent, unreadBeforeMs } = account
      return { slots: minute.slots(nowMs), month, spent, unreadBeforeMs }
    }
    const accounts = new Map([...this.#changedAccounts].map((id) => [id, record(id)]))
    const holds = new Map([...this.#changedHolds].map((id) => [id, this.#holds.get(id)]))
    this.#changedAccounts = new Set()
    this.#changedHolds = new Set()
    return { accounts, holds }
  }

  /** What {@link takeChanges} gave was not stored: it is given again. */
  keepChanges({ accounts, holds }: LedgerChanges): void {
    for (const id of accounts.keys()) this.#changedAccounts.add(id)
    for (const requestId of holds.keys()) this.#changedHolds.add(requestId)
  }

  /** Takes back what {@link takeChanges} gave; reservations count as told of now, since nobody could tell meanwhile. */
  restore(
    accounts: ReadonlyMap<string, AccountRecord>,
    holds: ReadonlyMap<string, Reservation>,
    nowMs: number,
  ): void {
    for (const [id, { slots, month, spent, unreadBeforeMs = 0 }] of accounts) {
      const minute = new SlidingMinute(slots)
      this.#accounts.set(id, { minute, month, spent, held: 0, open: 0, unreadBeforeMs })
    }
    for (const hold of holds.values()) {
      for (const account of this.#each(hold.accounts, nowMs)) {
        if (account.month === hold.month) account.held += hold.tokens
        account.open += 1
      }
      this.#keep({ ...hold, touchedAtMs: nowMs })
    }
  }

  /** How much to reserve, so that the answer cannot use more. */
  #size(wanted: ReservationRequest, nowMs: number): { tokens: number; maxTokens: number | null } {
    const { promptTokens, contextLength, prompts = 1, choices = 1 } = wanted
    // Of prompts of different lengths the mean one has room for as much as all of them together.
    const inContext =
      contextLength === undefined ? Infinity : Math.max(0, contextLength - Math.floor(promptTokens / prompts))
    if (wanted.maxTokens !== null)
      return { tokens: promptTokens + choices * Math.min(wanted.maxTokens, inContext), maxTokens: null }
    const most = Math.min(DEFAULT_COMPLETION_TOKENS, inContext)
    const lefts = wanted.accounts.flatMap(({ limits, ...account }) => {
      const { minute, spent, held } = this.#account(account, nowMs)
      const { tokensPerMinute = Infinity, tokensPerMonth = Infinity } = limits
      return [tokensPerMinute - minute.used('tokens', nowMs), tokensPerMonth - spent - held]
    })
    const left = Math.min(...lefts)
    if (left === Infinity) return { tokens: promptTokens + choices * most, maxTokens: null }
    const room = Math.floor((left - promptTokens) / choices)
    const completion = Math.max(Math.min(most, LEAST_COMPLETION_TOKENS), Math.min(most, room))
    return { tokens: promptTokens + choices * completion, maxTokens: completion }
  }

  #refusal(
    accounts: readonly LimitedAccount[],
    tokens: number,
    nowMs: number,
  ): Omit<LimitRejection, 'rates'> | undefined {
    for (const { kind, name, limits } of accounts) {
      const account = this.#account({ kind, name }, nowMs)
      const refuse = (
        limit: LimitRejection['limit'],
        most: number,
        used: number,
        wanted: number,
        retryAfterMs: number | null,
      ) => ({ kind, limit, most, remaining: Math.max(0, most - used), wanted, retryAfterMs })
      const { requestsPerMinute, tokensPerMinute, tokensPerMonth, concurrentRequests } = limits
      if (tokensPerMonth !== undefined && account.spent + account.held + tokens > tokensPerMonth) {
        const isLasting = account.spent + tokens > tokensPerMonth
        const used = isLasting ? account.spent : account.spent + account.held
        return refuse('month', tokensPerMonth, used, tokens, isLasting ? null : IN_FLIGHT_MS)
      }
      if (concurrentRequests !== undefined && account.open >= concurrentRequests)
        return refuse('concurrent', concurrentRequests, account.open, 1, IN_FLIGHT_MS)
      const requests = account.minute.used('requests', nowMs)
      if (requestsPerMinute !== undefined && requests + 1 > requestsPerMinute) {
        const excess = requests + 1 - requestsPerMinute
        return refuse(
          'requests',
          requestsPerMinute,
          requests,
          1,
          account.minute.waitMs('requests', excess, nowMs),
        )
      }
      const used = account.minute.used('tokens', nowMs)
      if (tokensPerMinute !== undefined && used + tokens > tokensPerMinute) {
        const waitMs = account.minute.waitMs('tokens', used + tokens - tokensPerMinute, nowMs)
        const mayBeGivenBack = used - account.held + tokens <= tokensPerMinute
        const retryAfterMs = mayBeGivenBack ? Math.min(waitMs, IN_FLIGHT_MS) : waitMs
        return refuse('tokens', tokensPerMinute, used, tokens, tokens > tokensPerMinute ? null : retryAfterMs)
      }
    }
    return undefined
  }

  #rates(accounts: readonly LimitedAccount[], nowMs: number): Rates {
    const tightest = (unit: Unit, limitOf: (limits: Limits) => number | undefined): Rate | undefined =>
      accounts
        .flatMap(({ limits, ...account }): Rate[] => {
          const limit = limitOf(limits)
          if (limit === undefined) return []
          const { minute } = this.#account(account, nowMs)
          const remaining = Math.max(0, limit - minute.used(unit, nowMs))
          return [{ limit, remaining, resetMs: minute.resetMs(unit, nowMs) }]
        })
        .reduce<Rate | undefined>((a, b) => (a && a.remaining <= b.remaining ? a : b), undefined)
    const requests = tightest('requests', (limits) => limits.requestsPerMinute)
    const tokens = tightest('tokens', (limits) => limits.tokensPerMinute)
    return { ...(requests ? { requests } : {}), ...(tokens ? { tokens } : {}) }
  }

  #keep(hold: Reservation): void {
    this.#holds.set(hold.requestId, hold)
    this.#byLease.set(hold.leaseId, hold)
    this.#running.add(hold.requestId)
  }

  #settle(hold: Reservation, tokens: number, estimated: boolean, nowMs: number): void {
    this.#stop(hold, nowMs)
    this.#holds.delete(hold.requestId)
    this.#byLease.delete(hold.leaseId)
    this.#changedHolds.add(hold.requestId)
    // Of the minute all that was reserved is counted already, of the month nothing.
    for (const account of this.#each(hold.accounts, nowMs)) {
      if (account.month !== hold.month) continue
      account.held -= hold.tokens
      account.spent += hold.tokens
    }
    this.#charge(hold, tokens - hold.tokens, nowMs)
    const settled = { hold, tokens, atMs: nowMs }
    this.#settled.set(hold.requestId, settled)
    if (estimated) this.#estimates.set(hold.leaseId, settled)
  }

  /** Corrects what a settled request is charged. */
  #charge(hold: Reservation, tokens: number, nowMs: number): void {
    for (const account of this.#each(hold.accounts, nowMs)) {
      account.minute.correct(hold.second, 0, tokens)
      if (account.month === hold.month) account.spent += tokens
    }
    for (const id of hold.accounts) this.#changedAccounts.add(id)
  }

  /** A receipt of a failed attempt can come before the next attempt does. */
  #reopen(requestId: string): Reservation | undefined {
    const settled = this.#settled.get(requestId)
    if (!settled) return undefined
    const { hold, tokens } = settled
    this.#settled.delete(requestId)
    this.#estimates.delete(hold.leaseId)
    for (const id of hold.accounts) {
      const account = this.#accounts.get(id)
      if (!account) continue
      account.minute.correct(hold.second, 0, hold.tokens - tokens)
      account.open += 1
      if (account.month === hold.month) {
        account.spent -= tokens
        account.held += hold.tokens
      }
      this.#changedAccounts.add(id)
    }
    this.#keep(hold)
    return hold
  }

  #stop(hold: Reservation, nowMs: number): void {
    if (!this.#running.delete(hold.requestId)) return
    for (const account of this.#each(hold.accounts, nowMs)) account.open -= 1
  }

  #each(ids: readonly string[], nowMs: number): Account[] {
    return ids.flatMap((id) => {
      const account = this.#accounts.get(id)
      return account ? [accountInMonth(account, nowMs)] : []
    })
  }

  /** An account as it is, or as it begins. */
  #open(account: LimitedAccount, nowMs: number): Account {
    const id = accountId(account)
    const found = this.#accounts.get(id)
    if (found) return accountInMonth(found, nowMs)
    const minute = new SlidingMinute()
    const opened = { minute, month: monthOf(nowMs), spent: 0, held: 0, open: 0, unreadBeforeMs: nowMs }
    this.#accounts.set(id, opened)
    this.#changedAccounts.add(id)
    return opened
  }

  #account(account: Omit<LimitedAccount, 'limits'>, nowMs: number): Account {
    const found = this.#accounts.get(accountId(account))
    if (!found) throw new Error(`the account ${accountId(account)} was not opened`)
    return accountInMonth(found, nowMs)
  }
}

import { DAY_MS } from '@copal/shared/day.ts'
import type { FailedAttempt } from '../../contracts/acquire.ts'
import type { FailedAttempts as FoundAttempts } from '../../contracts/fleet-object.ts'
import type { Lease } from '../../contracts/lease.ts'
import type { ChargedReceipt } from '../../contracts/reservation.ts'
import { storeEnded } from './estimated-receipts.ts'
import { RecentAttempts, type Outcome } from './recent-attempts.ts'

/** The time within which the gateway retries a request after its node failed. */
export const RETRY_MS = 1_000
/** After this time an attempt is pending: what was to store it has failed, or ended with the object. */
const PENDING_MS = 5_000
/** Attempts that an alarm stores: if each is of another node, they take 310 statements of the thousand that an alarm may execute. */
const MAX_STORED_BY_ALARM = 50
/** Attempts that an alarm stores one by one, up to 12 statements each, if one of them keeps the others from the database. */
const MAX_STORED_ONE_BY_ONE = 25
/** Attempts that are stored together. A Durable Object deletes at most 128 keys in one call. */
const MAX_STORED_TOGETHER = 128
/** After so many failures in a row the database is taken to be down. */
const MAX_FAILURES = 3
/** Attempts that wait in storage for the database at most: the object reads all of them when it starts. */
export const MAX_PENDING = 10_000
/** After this time an attempt that the database does not take is dropped. */
const DROP_MS = DAY_MS

const KEY = 'failed:'

/** What failed attempts need of the Durable Object. */
export interface FailedAttemptsHost {
  readonly binding: D1Database
  readonly storage: DurableObjectStorage
  readonly waitUntil: (work: Promise<unknown>) => void
  /** Returns whether the ledger knows what an attempt without a lease was charged. */
  readonly remembers: (attemptId: string) => boolean
  /**
   * Called when the outcome of an attempt is in the database.
   *
   * @param forgotten what its receipt had charged, if the ledger did not remember that when the attempt failed
   */
  readonly onStored: (attemptId: string, forgotten: ChargedReceipt | undefined) => void
  /** Runs what takes a receipt out of the database whose charge the ledger did not remember. */
  readonly whileRefunding: (work: () => Promise<void>) => Promise<void>
}

/** A failed attempt whose outcome is not in the database yet, as the object stores it. */
interface PendingAttempt {
  outcome: Outcome
  lease: Lease | undefined
  atMs: number
  /** Whether the ledger had forgotten by then what its receipt had charged; left out in records that are older than the field. */
  isForgotten?: boolean
}

/**
 * The attempts of which clients got no output: those that another attempt followed do not count, and the last ones count as requests
 * without tokens. They are remembered for the receipts that arrive soon, and stored for those that come when they are forgotten.
 */
export class FailedAttempts {
  readonly #recent = new RecentAttempts()
  /** The attempts in storage, which are not in the database yet, and whether the ledger had forgotten their charges. */
  readonly #pending = new Map<string, boolean>()
  /** The attempts that are stored in the database a moment after they failed, and whether their timers have ended. */
  readonly #waiting = new Map<string, { attempt: PendingAttempt; isDue: boolean }>()
  #isStoring = false
  readonly #host: FailedAttemptsHost
  /** The key of the attempt that {@link storePending} tried last; the next call goes on after it. */
  #lastTried: string | undefined

  constructor(host: FailedAttemptsHost) {
    this.#host = host
  }

  /** Records that another attempt follows a failed one. */
  supersede(failed: FailedAttempt, lease: Lease | undefined): void {
    this.#add('superseded', failed, lease)
  }

  /** Records that no other attempt follows a failed one: it was not retried, or no node took the retry. */
  giveUp(failed: FailedAttempt, lease: Lease | undefined): void {
    this.#add('undelivered', failed, lease)
  }

  isSuperseded(attemptId: string): boolean {
    return this.#recent.outcomeOf(attemptId) === 'superseded'
  }

  /** Returns those of the given attempts that are remembered. */
  find(attemptIds: readonly string[]): FoundAttempts {
    return this.#recent.find(attemptIds)
  }

  /**
   * Stores the outcome of a failed attempt whose receipt was stored as one that is charged: it was not known yet that the attempt failed.
   */
  correct(requestId: string): void {
    const outcome = this.#recent.outcomeOf(requestId)
    if (outcome === undefined || this.#pending.has(requestId)) return
    this.#storeSoon(requestId, { outcome, lease: undefined, atMs: Date.now(), isForgotten: false })
  }

  /** Remembers the attempts that are not in the database yet, after a restart of the object. */
  async restore(): Promise<void> {
    const pending = await this.#host.storage.list<PendingAttempt>({ prefix: KEY, limit: MAX_PENDING })
    for (const [key, { outcome, isForgotten = false }] of pending) {
      const requestId = key.slice(KEY.length)
      this.#pending.set(requestId, isForgotten)
      this.#recent.add(requestId, outcome, Date.now())
    }
  }

  /** Returns whether an attempt is not in the database yet. */
  get hasPending(): boolean {
    return this.#pending.size > 0
  }

  /**
   * Stores attempts that were not stored in time, because the database failed or the object restarted. One that the database does not
   * take is tried again by later calls, after the others.
   */
  async storePending(): Promise<void> {
    const after = this.#lastTried === undefined ? {} : { startAfter: this.#lastTried }
    const range = { prefix: KEY, limit: MAX_STORED_BY_ALARM, ...after }
    const pending = await this.#host.storage.list<PendingAttempt>(range)
    const due = new Map<string, PendingAttempt>()
    for (const [key, attempt] of pending) {
      const requestId = key.slice(KEY.length)
      if (Date.now() - attempt.atMs < PENDING_MS) continue
      if (!this.#recent.outcomeOf(requestId)) this.#recent.add(requestId, attempt.outcome, Date.now())
      due.set(requestId, attempt)
    }
    const last = [...pending.keys()].at(-1)
    const tried = await this.#store(due).then(
      () => last,
      () => this.#storeOneByOne(due),
    )
    // After the last attempt, the next call begins with the first one again.
    this.#lastTried = pending.size < MAX_STORED_BY_ALARM && tried === last ? undefined : tried
  }

  /**
   * Stores attempts that the database does not take together.
   *
   * @returns the key of the last one that was tried
   */
  async #storeOneByOne(attempts: ReadonlyMap<string, PendingAttempt>): Promise<string | undefined> {
    let failures = 0
    let tried: string | undefined
    for (const [requestId, attempt] of [...attempts].slice(0, MAX_STORED_ONE_BY_ONE)) {
      tried = KEY + requestId
      try {
        await this.#store(new Map([[requestId, attempt]]))
        failures = 0
      } catch (error) {
        await this.#storeLater(requestId, attempt, error)
        failures += 1
        if (failures === MAX_FAILURES) break
      }
    }
    return tried
  }

  /** Keeps an attempt that the database did not take for a later call, or drops it if it is old. */
  async #storeLater(requestId: string, { atMs }: PendingAttempt, error: unknown): Promise<void> {
    if (Date.now() - atMs < DROP_MS)
      return console.error(`Cannot store the failed attempt ${requestId}; trying again later:`, error)
    console.error(
      `Cannot store the failed attempt ${requestId} for a day; its receipt may be counted:`,
      error,
    )
    await this.#forget([requestId])
  }

  /**
   * Remembers an attempt. Stores it when no receipt is on its way to the database any more that was taken for one of another outcome,
   * unless its node rejected it: then it has used nothing, and there may be no receipt.
   */
  #add(outcome: Outcome, { requestId, how }: FailedAttempt, lease: Lease | undefined): void {
    const atMs = Date.now()
    this.#recent.add(requestId, outcome, atMs)
    // The gateway ends a request that takes too long like one that its node rejects. By then its node has named it, or its receipt has
    // come and ended the lease.
    const hasRun = how === 'refused' ? outcome === 'undelivered' && lease?.named !== false : how !== 'full'
    if (!hasRun) return
    const isForgotten =
      this.#pending.get(requestId) ?? (lease === undefined && !this.#host.remembers(requestId))
    this.#storeSoon(requestId, { outcome, lease, atMs, isForgotten })
  }

  #storeSoon(requestId: string, attempt: PendingAttempt & { isForgotten: boolean }): void {
    const { storage, waitUntil } = this.#host
    const { isForgotten } = attempt
    if (this.#pending.size < MAX_PENDING) this.#pending.set(requestId, isForgotten)
    if (this.#pending.has(requestId))
      waitUntil(storage.put(KEY + requestId, attempt, { allowUnconfirmed: true }))
    const entry = { attempt, isDue: false }
    this.#waiting.set(requestId, entry)
    waitUntil(
      wait(RETRY_MS).then(() => {
        entry.isDue = true
        return this.#storeDue()
      }),
    )
  }

  /** Stores the attempts that are due together: one by one, the failures of a node would take all time of the database. */
  async #storeDue(): Promise<void> {
    if (this.#isStoring) return
    this.#isStoring = true
    for (let attempts = this.#takeDue(); attempts.size > 0; attempts = this.#takeDue())
      await this.#store(attempts).catch((error: unknown) => {
        const ids = [...attempts.keys()].join(', ')
        console.error(`The receipts of the failed attempts ${ids} may be counted meanwhile:`, error)
      })
    this.#isStoring = false
  }

  /** Removes and returns attempts that are due: by the time too, because timers wait for the work of those before. */
  #takeDue(): ReadonlyMap<string, PendingAttempt> {
    const latestMs = Date.now() - RETRY_MS
    const due = [...this.#waiting].filter(([, { attempt, isDue }]) => isDue || attempt.atMs <= latestMs)
    const taken = due.slice(0, MAX_STORED_TOGETHER)
    for (const [requestId] of taken) this.#waiting.delete(requestId)
    return new Map(taken.map(([requestId, { attempt }]) => [requestId, attempt]))
  }

  /** Stores the last outcomes of attempts in the database. */
  async #store(attempts: ReadonlyMap<string, PendingAttempt>): Promise<void> {
    if (attempts.size === 0) return
    const { binding, onStored, whileRefunding } = this.#host
    const ended = Array.from(attempts, ([requestId, { outcome, lease }]) => {
      const isSuperseded = (this.#recent.outcomeOf(requestId) ?? outcome) === 'superseded'
      return { requestId, lease, isSuperseded }
    })
    const work = async () => {
      const charged = await storeEnded(binding, ended, Date.now())
      for (const [requestId, { isForgotten }] of attempts)
        onStored(requestId, isForgotten ? charged.get(requestId) : undefined)
    }
    const isRefund = [...attempts.values()].some(({ isForgotten }) => isForgotten)
    await (isRefund ? whileRefunding(work) : work())
    await this.#forget([...attempts.keys()])
  }

  async #forget(requestIds: readonly string[]): Promise<void> {
    for (const requestId of requestIds) this.#pending.delete(requestId)
    await this.#host.storage.delete(
      requestIds.map((requestId) => KEY + requestId),
      { allowUnconfirmed: true },
    )
  }
}

/** Waits some milliseconds. */
export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

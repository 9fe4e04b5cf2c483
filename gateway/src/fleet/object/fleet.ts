import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { findSettled, insertReceipts, type StoredReceipt } from '../../storage/db/queries/receipt-queries.ts'
import { sumTokens } from '../../storage/db/queries/usage-day-queries.ts'
import type { Bindings } from '../../contracts/bindings.ts'
import { accountId } from '../ledger/account.ts'
import { loadLedger, saveLedger } from '../ledger/ledger-store.ts'
import { Ledger } from '../ledger/ledger.ts'
import type { LimitedAccount } from '../../contracts/limits.ts'
import type { UnreadUsage } from '../../contracts/reservation.ts'
import type { Trials } from '../../contracts/trial.ts'
import { Dispatcher } from './dispatcher.ts'
import type { Lease, LeaseView } from '../../contracts/lease.ts'
import { readPolicy } from './policy-variables.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import type { Acquired, AcquireRequest, FailedAttempt } from '../../contracts/acquire.ts'
import { RejectionCounts } from './rejection-counts.ts'
import type {
  FleetObject,
  RejectionCount,
  AdmissionRequest,
  AdmissionResult,
  Settlement,
} from '../../contracts/fleet-object.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import type { NodeRecord } from './fleet-node.ts'
import { FleetState } from './fleet-state.ts'
import { SupersededAttempts } from './superseded-attempts.ts'

/** How often expired leases and silent nodes are looked for at the least, while any node is remembered. */
const SWEEP_MS = 10_000
/** What was counted is stored so much later, for many requests at once: a crash loses no more than that. */
const SAVE_MS = 100
/** Within that the gateway tries a request again, from when its node failed. */
const RETRY_MS = 1_000
/** Leases of one node that are kept over a restart; more would not fit a stored value of 2 MB. */
const MAX_KEPT_LEASES = 5_000
/** Requests whose receipts are looked up at once. */
const MOST_UNSURE = 1_000
const NODE_KEY = 'node:'

/**
 * The one Durable Object that knows the nodes, who is working on what, and what keys with limits have used.
 *
 * Limits live here because each request asks here for its node anyway: one call reserves and leases, and the call
 * that releases leases settles. A request without limits is only counted, when it ends, for accounts that had some.
 *
 * The state of nodes is in memory; each heartbeat also stores that node with its leases, without waiting for
 * the write. A restart therefore loses at most the leases of the last two seconds: their requests
 * still end with a receipt, only an expiry of theirs goes unnoticed. What was counted is stored soon after, for
 * many requests at once. No request waits for a write.
 */
export class Fleet extends DurableObject<Bindings> implements FleetObject {
  readonly #policy: FleetPolicy
  readonly #state: FleetState
  readonly #dispatcher: Dispatcher
  readonly #refusals: RejectionCounts
  readonly #superseded = new SupersededAttempts()
  #ledger = new Ledger()
  #sweepScheduled = false
  #saveScheduled: ReturnType<typeof setTimeout> | undefined
  /** Leases and reservations of before this object started, of which nobody looked yet whether they were settled. */
  #unsure: readonly string[] = []

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#policy = readPolicy(env)
    this.#state = new FleetState(this.#policy)
    this.#dispatcher = new Dispatcher(this.#state, this.#policy)
    this.#refusals = new RejectionCounts((model) => this.#state.contextLengthOf(model) !== undefined)
    void ctx.blockConcurrencyWhile(async () => {
      const records = await ctx.storage.list<NodeRecord>({ prefix: NODE_KEY })
      for (const record of records.values()) this.#state.restore(record)
      const { ledger, leaseIds } = await loadLedger(ctx.storage, Date.now())
      this.#ledger = ledger
      this.#sweepScheduled = (await ctx.storage.getAlarm()) !== null
      const leased = [...records.values()].flatMap(({ leases }) => leases.map(({ requestId }) => requestId))
      this.#unsure = [...new Set([...leased, ...leaseIds])]
      ctx.waitUntil(this.#settleUnsure())
    })
  }

  async heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    trials?: Trials,
  ): Promise<{ known: boolean; registered: boolean; drained: boolean; replaced?: true }> {
    const { nodeId } = heartbeat
    if (this.#state.isReplaced(heartbeat))
      return { known: true, registered: false, drained: false, replaced: true }
    if (!this.#state.heartbeat(heartbeat, desiredVersion, Date.now(), trials))
      return { known: false, registered: false, drained: false }
    const named = heartbeat.requests.map(({ requestId }) => requestId)
    // Of a lease that a restart has lost it is the node alone that knows.
    const own = named.filter((id) => (this.#state.leaseOf(id)?.nodeId ?? nodeId) === nodeId)
    this.#ledger.renew(own, Date.now())
    this.#dispatcher.serve()
    await this.#keep(nodeId, { allowUnconfirmed: true })
    if (heartbeat.leaving) await this.#scheduleSweep(0)
    else if (!this.#sweepScheduled) await this.#scheduleSweep()
    return {
      known: true,
      registered: this.#state.methodsOf(nodeId) !== undefined,
      drained: this.#state.isDrained(nodeId),
    }
  }

  async drain(nodeId: string, drained: boolean): Promise<boolean> {
    if (!this.#state.drain(nodeId, drained)) return false
    await this.#keep(nodeId)
    this.#dispatcher.serve()
    return true
  }

  async acquire({ limits, answered = [], ...request }: AdmissionRequest): Promise<AdmissionResult> {
    // Before anything is waited for: the failed attempt's receipt may be on its way.
    if (request.failed) this.#superseded.add(request.failed.requestId, Date.now())
    for (const requestId of answered) this.#ledger.finish(requestId, false, Date.now())
    if (!limits) return this.#dispatch(request)
    for (const account of limits.accounts) {
      const unread = this.#ledger.unread(account, Date.now())
      if (unread) await this.#readMonth(account, unread)
    }
    if (!this.#sweepScheduled) await this.#scheduleSweep()
    const nowMs = Date.now()
    const reserved = this.#ledger.reserve(
      {
        ...limits,
        leaseId: request.requestId,
        promptTokens: request.promptTokens,
        contextLength: this.#state.contextLengthOf(request.model),
      },
      nowMs,
    )
    if (!reserved.ok) {
      this.#refusals.count(request, reserved.refusal.limit)
      return reserved
    }
    const acquired = await this.#dispatch(request)
    if (!acquired.ok && request.requestId === limits.requestId)
      this.#ledger.cancel(limits.requestId, Date.now())
    this.#saveLedger()
    const { maxTokens, rates } = reserved
    return acquired.ok ? { ...acquired, maxTokens, rates } : acquired
  }

  async #dispatch(request: AcquireRequest): Promise<Acquired> {
    const acquired = await this.#dispatcher.acquire(request)
    if (!acquired.ok) this.#refusals.count(request, acquired.reason)
    return acquired
  }

  finish(requestIds: readonly string[], gaveNothing: boolean): void {
    for (const requestId of requestIds) this.#ledger.finish(requestId, gaveNothing, Date.now())
    this.#saveLedger()
  }

  fail(attempt: FailedAttempt): void {
    this.#state.fail(attempt, Date.now())
    this.#dispatcher.serve()
  }

  abandon(leaseId: string, requestId?: string): void {
    this.#dispatcher.abandon(leaseId)
    this.#state.release([leaseId])
    if (requestId === leaseId) this.#ledger.cancel(requestId, Date.now())
    else if (requestId !== undefined) this.#ledger.finish(requestId, true, Date.now())
    this.#dispatcher.serve()
    this.#saveLedger()
  }

  look(leaseId: string): LeaseView | undefined {
    return this.#state.look(leaseId, Date.now())
  }

  touch(leaseId: string): void {
    this.#state.touch(leaseId, Date.now())
    this.#ledger.renew([leaseId], Date.now())
  }

  settle(settlements: readonly Settlement[]): void {
    const nowMs = Date.now()
    for (const { requestId, done, tokens } of settlements) {
      if (done) this.#state.succeeded(requestId, nowMs)
      this.#chargeUnlimited(this.#state.leaseOf(requestId), tokens)
      this.#ledger.settle(requestId, tokens, nowMs)
    }
    this.#state.release(settlements.map(({ requestId }) => requestId))
    this.#saveLedger()
    this.#dispatcher.serve()
  }

  async saveCounts(): Promise<void> {
    clearTimeout(this.#saveScheduled)
    this.#saveScheduled = undefined
    await saveLedger(this.ctx.storage, this.#ledger, Date.now())
  }

  async superseded(attemptIds: readonly string[], failed: readonly string[]): Promise<string[]> {
    const isOpen = (attemptId: string) =>
      this.#state.leaseOf(attemptId) !== undefined && this.#superseded.among([attemptId]).length === 0
    for (let waitedMs = 0; waitedMs < RETRY_MS && failed.some(isOpen); waitedMs += RETRY_MS / 20)
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS / 20))
    return this.#superseded.among(attemptIds)
  }

  snapshot(): FleetSnapshot {
    return this.#state.snapshot(Date.now())
  }

  refusals(): RejectionCount[] {
    return this.#refusals.list()
  }

  versionFor(model: string, account: string): number | undefined {
    return this.#state.versionFor(model, account, Date.now())
  }

  offeredMethods(model: string): string[] | null {
    return this.#state.offeredMethods(model, Date.now())
  }

  methodsOf(nodeId: string): readonly string[] {
    return this.#state.methodsOf(nodeId) ?? []
  }

  /** Settles expired leases with what their nodes told last, and forgets nodes long gone. */
  override async alarm(): Promise<void> {
    await this.#settleUnsure()
    const nowMs = Date.now()
    const { leases, forgotten } = this.#state.expire(nowMs)
    if (forgotten.length > 0) await this.ctx.storage.delete(forgotten.map((id) => NODE_KEY + id))
    this.#sweepScheduled = false
    if (!this.#state.empty || !this.#ledger.empty) await this.#scheduleSweep()
    const db = openDatabase(this.env.DB)
    for (const [nodeId, expired] of Map.groupBy(leases, (lease) => lease.nodeId)) {
      const settled = expired.map((lease) => lostReceipt(lease, nowMs))
      try {
        await insertReceipts(db, nodeId, settled, 'estimate', nowMs)
        this.#state.release(settled.map(({ requestId }) => requestId))
        for (const lease of expired) {
          const tokens = lease.promptTokens + lease.completionTokens
          this.#chargeUnlimited(lease, tokens)
          // As its receipt has it: a month that is read from receipts must be the same.
          this.#ledger.expire([lease.requestId], nowMs, tokens)
        }
      } catch (error) {
        console.error(`${settled.length} lost requests of node '${nodeId}' are settled later:`, error)
      }
    }
    this.#dispatcher.serve()
    this.#ledger.sweep(nowMs, (leaseId) => this.#state.leaseOf(leaseId) !== undefined)
    this.#saveLedger()
  }

  /**
   * Settles what was settled in the last moment before this object started, and not stored: its receipts tell, and no
   * node tells of it again. A try that was superseded is charged nothing; where its reservation is still here, that of the
   * try after it was not stored, whose receipt charges the month alone.
   */
  async #settleUnsure(): Promise<void> {
    try {
      while (this.#unsure.length > 0) {
        const asked = this.#unsure.slice(0, MOST_UNSURE)
        const settled = await findSettled(openDatabase(this.env.DB), asked)
        this.#unsure = this.#unsure.filter((requestId) => !asked.includes(requestId))
        for (const { requestId, tokens, finishReason, estimated } of settled) {
          if (estimated) this.#ledger.expire([requestId], Date.now(), tokens)
          else this.#ledger.settle(requestId, finishReason === 'superseded' ? 0 : tokens, Date.now())
        }
        this.#state.release(settled.map(({ requestId }) => requestId))
        this.#saveLedger()
        this.#dispatcher.serve()
      }
    } catch (error) {
      console.error(
        `Whether ${this.#unsure.length} requests of before were settled is looked up later:`,
        error,
      )
    }
  }

  /** What an account has used in this month before it had limits, or before this object forgot it, is in its receipts. */
  async #readMonth(account: LimitedAccount, unread: UnreadUsage): Promise<void> {
    try {
      const tokens = await sumTokens(openDatabase(this.env.DB), account, unread)
      this.#ledger.read(account, unread, tokens, Date.now())
    } catch (error) {
      const of = `${account.kind} '${account.name}'`
      console.error(`The month of ${of} counts without its receipts until these can be read:`, error)
    }
  }

  #chargeUnlimited(lease: Lease | undefined, tokens: number): void {
    if (!lease || this.#ledger.empty) return
    const { requestId, account, tenant } = lease
    const owners = [
      ...(account === undefined ? [] : [accountId({ kind: 'key', name: account })]),
      ...(tenant === undefined ? [] : [accountId({ kind: 'tenant', name: tenant })]),
    ]
    this.#ledger.chargeUnlimited(requestId, owners, tokens, Date.now())
  }

  async #keep(nodeId: string, options: DurableObjectPutOptions = {}): Promise<void> {
    const record = this.#state.record(nodeId)
    if (!record) return
    const kept = { ...record, leases: record.leases.slice(-MAX_KEPT_LEASES) }
    await this.ctx.storage.put(NODE_KEY + nodeId, kept, options)
  }

  #saveLedger(): void {
    this.#saveScheduled ??= setTimeout(() => {
      this.saveCounts().catch((error: unknown) => console.error('What was counted is not stored:', error))
    }, SAVE_MS)
  }

  async #scheduleSweep(inMs = Math.min(SWEEP_MS, this.#policy.deadMs / 3)): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now() + inMs, { allowUnconfirmed: true })
    this.#sweepScheduled = true
  }
}

/** What a request is settled with when its node died before it could tell: what that told last. */
function lostReceipt(lease: Lease, nowMs: number): StoredReceipt {
  const { requestId, account, model, domain, maskVersion, promptTokens, completionTokens } = lease
  return {
    requestId,
    account,
    model,
    domain,
    maskVersion,
    promptTokens,
    completionTokens,
    finishReason: 'error',
    queueMs: 0,
    timeToFirstTokenMs: null,
    totalMs: nowMs - lease.acquiredAtMs,
    drift: null,
  }
}

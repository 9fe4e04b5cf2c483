import { DurableObject } from 'cloudflare:workers'
import type { MetricFamily } from '@copal/shared/telemetry/family.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { openDatabase } from '../../storage/db/open-database.ts'
import { findSettledReceipts } from '../../storage/db/queries/receipt-queries.ts'
import type { Bindings } from '../../contracts/bindings.ts'
import { accountIdsOf } from '../ledger/account.ts'
import { LedgerStore } from '../ledger/ledger-store.ts'
import { Ledger } from '../ledger/ledger.ts'
import { chargePastUsage, chargeUnreadUsage } from '../ledger/past-usage.ts'
import type { Trials } from '../../contracts/trial.ts'
import { DispatchMetrics } from './dispatch-metrics.ts'
import { Dispatcher } from './dispatcher.ts'
import type { Lease, LeaseView } from '../../contracts/lease.ts'
import { readPolicy } from './policy-variables.ts'
import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import type { AcquireResult, AcquireRequest, FailedAttempt } from '../../contracts/acquire.ts'
import { RejectionCounts } from './rejection-counts.ts'
import type {
  FleetObject,
  RejectionCount,
  AdmissionRequest,
  AdmissionResult,
  FailedAttempts as FoundAttempts,
  Settlement,
  SignatureUse,
} from '../../contracts/fleet-object.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import type { NodeRecord } from './fleet-node.ts'
import { storeEstimates } from './estimated-receipts.ts'
import { FailedAttempts, RETRY_MS, wait } from './failed-attempts.ts'
import { FleetState } from './fleet-state.ts'
import { UsedSignatures } from './used-signatures.ts'

/** The maximum interval between sweeps for expired leases and silent nodes, while any node is remembered. */
const SWEEP_MS = 10_000
/** The maximum number of stored leases per node; more would not fit into a stored value of 2 MB. */
const MAX_STORED_LEASES = 2_500
/** The maximum number of requests whose receipts are looked up or stored at once: a parameter of D1 has at most 2 MB. */
const MAX_SETTLED_AT_ONCE = 1_000
const NODE_KEY = 'node:'

/**
 * The Durable Object that tracks the nodes, their leases and the usage of limited keys and tenants.
 *
 * Limits are enforced here because each request asks this object for its node anyway: one call reserves usage and leases
 * a node, and the call that ends the lease settles the usage. A request without limits is only charged when it ends, and
 * only to accounts that had limits before.
 *
 * The state of nodes is in memory. Each heartbeat also stores its node with the leases, without waiting for the write.
 * So a restart loses at most the leases of the last two seconds: their requests still end with a receipt, but would not
 * expire without one. Ledger changes are stored soon after, for many requests at once. No request waits for a write.
 */
export class Fleet extends DurableObject<Bindings> implements FleetObject {
  readonly #policy: FleetPolicy
  readonly #state: FleetState
  readonly #dispatcher: Dispatcher
  readonly #rejections: RejectionCounts
  readonly #metrics: DispatchMetrics
  readonly #failed: FailedAttempts
  readonly #signatures = new UsedSignatures()
  readonly #ledger = new Ledger()
  readonly #ledgerStore: LedgerStore
  #sweepScheduled = false
  /** Leases and reservations from before this object started; whether they were settled meanwhile is not checked yet. */
  #unconfirmed: readonly string[] = []

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    this.#policy = readPolicy(env)
    this.#failed = new FailedAttempts({
      binding: env.DB,
      storage: ctx.storage,
      waitUntil: (work) => ctx.waitUntil(work),
      remembers: (attemptId) => this.#ledger.remembers(attemptId),
      whileRefunding: (work) => this.#ledger.whileRefunding(work),
      onStored: (attemptId, forgotten) => {
        // A lease and a reservation that ended just before a restart are here again.
        this.#state.release([attemptId])
        this.#ledger.giveBack(attemptId, Date.now())
        if (forgotten) this.#ledger.refundReceipt(forgotten, Date.now())
        this.#ledgerStore.saveSoon()
      },
    })
    this.#ledgerStore = new LedgerStore(this.#ledger, ctx.storage)
    this.#state = new FleetState(this.#policy)
    this.#dispatcher = new Dispatcher(this.#state, this.#policy)
    this.#metrics = new DispatchMetrics({
      queueLength: () => this.#dispatcher.queueLength,
      breakers: () => this.#state.nodes.breakerStates(Date.now()),
    })
    this.#rejections = new RejectionCounts((model) => this.#state.nodes.contextLengthOf(model) !== undefined)
    void ctx.blockConcurrencyWhile(async () => {
      const records = await ctx.storage.list<NodeRecord>({ prefix: NODE_KEY })
      for (const { signedAtMs, ...record } of records.values()) {
        this.#state.restore(record)
        if (signedAtMs !== undefined) this.#signatures.restore(record.heartbeat.nodeId, signedAtMs)
      }
      const reserved = await this.#ledgerStore.load(Date.now())
      await this.#failed.restore()
      this.#sweepScheduled = (await ctx.storage.getAlarm()) !== null
      const leased = [...records.values()].flatMap(({ leases }) => leases.map(({ requestId }) => requestId))
      this.#unconfirmed = [...new Set([...leased, ...reserved])]
      ctx.waitUntil(this.#settleUnconfirmed())
    })
  }

  async heartbeat(
    heartbeat: Heartbeat,
    desiredVersion: number | undefined,
    trials?: Trials,
    signature?: SignatureUse,
  ): Promise<{ known: boolean; registered: boolean; drained: boolean; replaced?: true; replayed?: true }> {
    const { nodeId } = heartbeat
    if (signature && !this.useSignature(signature))
      return { known: true, registered: false, drained: false, replayed: true }
    if (this.#state.nodes.isReplaced(heartbeat))
      return { known: true, registered: false, drained: false, replaced: true }
    if (!this.#state.heartbeat(heartbeat, desiredVersion, Date.now(), trials))
      return { known: false, registered: false, drained: false }
    const listed = heartbeat.requests.map(({ requestId }) => requestId)
    // After a restart has lost a lease, only its node knows of it.
    const own = listed.filter((id) => (this.#state.leaseOf(id)?.nodeId ?? nodeId) === nodeId)
    this.#ledger.renew(own, Date.now())
    this.#dispatcher.serveQueue()
    await this.#storeNode(nodeId, { allowUnconfirmed: true })
    if (heartbeat.leaving) await this.#scheduleSweep(0)
    else if (!this.#sweepScheduled) await this.#scheduleSweep()
    return {
      known: true,
      registered: this.#state.nodes.methodsOf(nodeId) !== undefined,
      drained: this.#state.nodes.isDrained(nodeId),
    }
  }

  useSignature(signature: SignatureUse): boolean {
    return this.#signatures.use(signature, Date.now())
  }

  async drain(nodeId: string, drained: boolean): Promise<boolean> {
    if (!this.#state.nodes.drain(nodeId, drained)) return false
    await this.#storeNode(nodeId)
    this.#dispatcher.serveQueue()
    return true
  }

  async acquire(request: AdmissionRequest): Promise<AdmissionResult> {
    const { failed } = request
    const lease = failed && this.#state.leaseOf(failed.requestId)
    // Before any await, because the receipt of the failed attempt may be on its way.
    if (failed) {
      this.#failed.supersede(failed, lease)
      this.#refund(failed.requestId)
    }
    const admitted = await this.#admit(request)
    if (failed && !admitted.ok) this.#failed.giveUp(failed, lease)
    return admitted
  }

  async #admit({
    limits,
    completedRequests = [],
    rejectedRequests = [],
    ...request
  }: AdmissionRequest): Promise<AdmissionResult> {
    for (const { reason, requests, ...of } of rejectedRequests) this.#rejections.count(of, reason, requests)
    for (const requestId of completedRequests) this.#ledger.finish(requestId, false, Date.now())
    if (!limits) return this.#dispatch(request)
    for (const account of limits.accounts) {
      const running = () => this.#state.leasesOf(account)
      const uncharged = this.#ledger.unchargedUsage(account, Date.now(), running)
      if (uncharged && account.limits.tokensPerMonth !== undefined)
        await chargePastUsage(this.env.DB, this.#ledger, account, uncharged)
    }
    if (!this.#sweepScheduled) await this.#scheduleSweep()
    const nowMs = Date.now()
    const reserved = this.#ledger.reserve(
      {
        ...limits,
        leaseId: request.requestId,
        promptTokens: request.promptTokens,
        contextLength: this.#state.nodes.contextLengthOf(request.model),
      },
      nowMs,
    )
    if (!reserved.ok) {
      this.#rejections.count(request, reserved.rejection.limit)
      return reserved
    }
    const acquired = await this.#dispatch(request)
    if (!acquired.ok && request.requestId === limits.requestId)
      this.#ledger.cancel(limits.requestId, Date.now())
    this.#ledgerStore.saveSoon()
    const { maxTokens, rates } = reserved
    return acquired.ok ? { ...acquired, maxTokens, rates } : acquired
  }

  async #dispatch(request: AcquireRequest): Promise<AcquireResult> {
    const sinceMs = Date.now()
    if (request.failed) this.#metrics.failed(request.model, request.failed.how)
    const acquired = await this.#dispatcher.acquire(request)
    this.#metrics.acquired(request, acquired, Date.now() - sinceMs)
    if (!acquired.ok) this.#rejections.count(request, acquired.reason)
    return acquired
  }

  finish(requestIds: readonly string[], gaveNothing: boolean): void {
    for (const requestId of requestIds) this.#ledger.finish(requestId, gaveNothing, Date.now())
    this.#ledgerStore.saveSoon()
  }

  fail(attempt: FailedAttempt): void {
    if (attempt.how !== 'ended')
      this.#metrics.failed(this.#state.leaseOf(attempt.requestId)?.model, attempt.how)
    if (attempt.how !== 'ended' && attempt.how !== 'cut') {
      this.#failed.giveUp(attempt, this.#state.leaseOf(attempt.requestId))
      this.#refund(attempt.requestId)
    }
    this.#state.fail(attempt, Date.now())
    this.#dispatcher.serveQueue()
  }

  abandon(leaseId: string, requestId?: string): void {
    this.#dispatcher.abandon(leaseId)
    this.#state.release([leaseId])
    if (requestId === leaseId) this.#ledger.cancel(requestId, Date.now())
    else if (requestId !== undefined) this.#ledger.finish(requestId, true, Date.now())
    this.#dispatcher.serveQueue()
    this.#ledgerStore.saveSoon()
  }

  leaseView(leaseId: string): LeaseView | undefined {
    return this.#state.leaseView(leaseId, Date.now())
  }

  touch(leaseId: string): void {
    this.#state.touch(leaseId, Date.now())
    this.#ledger.renew([leaseId], Date.now())
  }

  settle(settlements: readonly Settlement[]): void {
    const nowMs = Date.now()
    for (const { requestId, succeeded, tokens } of settlements) {
      if (succeeded) this.#state.succeeded(requestId, nowMs)
      this.#chargeUnlimited(this.#state.leaseOf(requestId), tokens)
      this.#ledger.settle(requestId, tokens, nowMs)
      this.#state.release([requestId])
      if (tokens > 0) this.#failed.correct(requestId)
    }
    this.#ledgerStore.saveSoon()
    this.#dispatcher.serveQueue()
  }

  async saveCounts(): Promise<void> {
    await this.#ledgerStore.save()
  }

  async findFailed(attemptIds: readonly string[], failed: readonly string[]): Promise<FoundAttempts> {
    const isOpen = (attemptId: string) =>
      this.#state.leaseOf(attemptId) !== undefined && !this.#failed.isSuperseded(attemptId)
    for (let waitedMs = 0; waitedMs < RETRY_MS && failed.some(isOpen); waitedMs += RETRY_MS / 20)
      await wait(RETRY_MS / 20)
    return this.#failed.find(attemptIds)
  }

  snapshot(): FleetSnapshot {
    return this.#state.nodes.snapshot(Date.now())
  }

  dispatchMetrics(): MetricFamily[] {
    return this.#metrics.collect()
  }

  rejectionCounts(): RejectionCount[] {
    return this.#rejections.list()
  }

  versionFor(request: Pick<AcquireRequest, 'model' | 'conversation' | 'domain'>): number | undefined {
    return this.#state.versionFor(request, Date.now())
  }

  offeredMethods(model: string): string[] | null {
    return this.#state.nodes.offeredMethods(model, Date.now())
  }

  nodesWithMethod(nodeIds: readonly string[], method: string): string[] {
    return nodeIds.filter((id) => this.#state.nodes.methodsOf(id)?.includes(method))
  }

  /** Settles expired leases with the last reported usage, and forgets nodes that have been gone for long. */
  override async alarm(): Promise<void> {
    await this.#settleUnconfirmed()
    await this.#failed.storePending()
    const nowMs = Date.now()
    const { leases, forgotten } = this.#state.expire(nowMs)
    for (const nodeId of forgotten) this.#signatures.forget(nodeId)
    // One by one: a call takes at most 128 keys.
    await Promise.all(forgotten.map((id) => this.ctx.storage.delete(NODE_KEY + id)))
    this.#sweepScheduled = false
    if (this.#state.nodes.size > 0 || !this.#ledger.empty || this.#failed.hasPending)
      await this.#scheduleSweep()
    for (const [nodeId, expired] of Map.groupBy(leases, (lease) => lease.nodeId))
      for (let from = 0; from < expired.length; from += MAX_SETTLED_AT_ONCE)
        await this.#settleExpired(nodeId, expired.slice(from, from + MAX_SETTLED_AT_ONCE), nowMs)
    this.#dispatcher.serveQueue()
    const isOpen = (id: string) => this.#state.leaseOf(id) !== undefined || this.#dispatcher.isWaiting(id)
    this.#ledger.sweep(nowMs, isOpen)
    this.#ledgerStore.saveSoon()
    await chargeUnreadUsage(this.env.DB, this.#ledger, () => this.#ledgerStore.saveSoon())
  }

  async #settleExpired(nodeId: string, expired: readonly Lease[], nowMs: number): Promise<void> {
    try {
      await storeEstimates(this.env.DB, nodeId, expired, (id) => this.#failed.isSuperseded(id), nowMs)
      // The others were settled by their receipts meanwhile.
      const lost = expired.filter(({ requestId }) => this.#state.leaseOf(requestId) !== undefined)
      this.#state.release(lost.map(({ requestId }) => requestId))
      for (const lease of lost) {
        if (this.#failed.isSuperseded(lease.requestId)) continue
        const tokens = lease.promptTokens + lease.completionTokens
        this.#chargeUnlimited(lease, tokens)
        // The same tokens as in its receipt, because a month may be summed from receipts later.
        this.#ledger.expire([lease.requestId], nowMs, tokens)
      }
    } catch (error) {
      console.error(
        `Cannot settle ${expired.length} lost requests of node '${nodeId}'; trying again later:`,
        error,
      )
    }
  }

  /**
   * Settles requests that were settled just before this object restarted, if that was not stored. Their receipts are in
   * D1, and no node reports them again. A superseded attempt is charged nothing. If its reservation is still here, that
   * of the next attempt was not stored, and the receipt of that attempt charges only the month.
   */
  async #settleUnconfirmed(): Promise<void> {
    try {
      while (this.#unconfirmed.length > 0) {
        const batch = this.#unconfirmed.slice(0, MAX_SETTLED_AT_ONCE)
        const settled = await findSettledReceipts(openDatabase(this.env.DB), batch)
        this.#unconfirmed = this.#unconfirmed.filter((requestId) => !batch.includes(requestId))
        for (const { requestId, tokens, finishReason, estimated } of settled) {
          if (estimated) this.#ledger.expire([requestId], Date.now(), tokens)
          else this.#ledger.settle(requestId, finishReason === 'superseded' ? 0 : tokens, Date.now())
        }
        this.#state.release(settled.map(({ requestId }) => requestId))
        this.#ledgerStore.saveSoon()
        this.#dispatcher.serveQueue()
      }
    } catch (error) {
      console.error(
        `Cannot check whether ${this.#unconfirmed.length} requests were settled before the restart; trying again later:`,
        error,
      )
    }
  }

  #chargeUnlimited(lease: Lease | undefined, tokens: number): void {
    if (!lease || this.#ledger.empty) return
    this.#ledger.chargeUnlimited(lease.requestId, accountIdsOf(lease), tokens, Date.now())
  }

  /** Gives accounts without a reservation back what a failed attempt was charged. */
  #refund(attemptId: string): void {
    this.#ledger.refundUnlimited(attemptId, Date.now())
    this.#ledgerStore.saveSoon()
  }

  async #storeNode(nodeId: string, options: DurableObjectPutOptions = {}): Promise<void> {
    const record = this.#state.nodes.record(nodeId)
    if (!record) return
    const signedAtMs = this.#signatures.lastSignedMs(nodeId)
    const leases = record.leases.slice(-MAX_STORED_LEASES)
    const kept = { ...record, leases, ...(signedAtMs === undefined ? {} : { signedAtMs }) }
    await this.ctx.storage.put(NODE_KEY + nodeId, kept, options)
  }

  async #scheduleSweep(inMs = Math.min(SWEEP_MS, this.#policy.deadMs / 3)): Promise<void> {
    await this.ctx.storage.setAlarm(Date.now() + inMs, { allowUnconfirmed: true })
    this.#sweepScheduled = true
  }
}

import { DurableObject } from 'cloudflare:workers'
import type { Heartbeat, Receipt } from '@copal/shared/wire/node-rpc.ts'
import { openDatabase } from '../db/database.ts'
import { insertReceipts } from '../db/queries/receipts.ts'
import type { Bindings } from '../deps.ts'
import {
  FleetState,
  type Acquired,
  type AcquireRequest,
  type FailedAttempt,
  type FleetSnapshot,
  type Lease,
  type NodeRecord,
} from './state.ts'

/** How often expired leases and silent nodes are looked for, while any node is remembered. */
const SWEEP_MS = 10_000
/** Leases of one node that are kept over a restart; more would not fit a stored value of 2 MB. */
const MAX_KEPT_LEASES = 5_000
const NODE_KEY = 'node:'

/**
 * The one Durable Object that knows the nodes and who is working on what.
 *
 * Its state is in memory; each heartbeat also stores that node with its leases, without waiting for
 * the write. A restart therefore loses at most the leases of the last two seconds: their requests
 * still end with a receipt, only an expiry of theirs goes unnoticed. No request waits for a write.
 */
export class Fleet extends DurableObject<Bindings> {
  readonly #state = new FleetState()
  #sweepScheduled = false

  constructor(ctx: DurableObjectState, env: Bindings) {
    super(ctx, env)
    void ctx.blockConcurrencyWhile(async () => {
      for (const record of (await ctx.storage.list<NodeRecord>({ prefix: NODE_KEY })).values()) {
        this.#state.restore(record)
      }
      this.#sweepScheduled = (await ctx.storage.getAlarm()) !== null
    })
  }

  /** Registers or renews a node; `desiredVersion` is what D1 says its model shall be served with. */
  async heartbeat(heartbeat: Heartbeat, desiredVersion: number): Promise<void> {
    this.#state.heartbeat(heartbeat, desiredVersion, Date.now())
    const record = this.#state.record(heartbeat.nodeId)
    if (record) {
      const kept = { ...record, leases: record.leases.slice(-MAX_KEPT_LEASES) }
      await this.ctx.storage.put(NODE_KEY + heartbeat.nodeId, kept, { allowUnconfirmed: true })
    }
    if (!this.#sweepScheduled) await this.#scheduleSweep()
  }

  /** Leases the best node for one request. */
  acquire(request: AcquireRequest): Acquired {
    return this.#state.acquire(request, Date.now())
  }

  /** Takes note of an attempt that failed and is not followed by another. */
  fail(attempt: FailedAttempt): void {
    this.#state.fail(attempt)
  }

  /** Ends the leases of settled requests. */
  release(requestIds: readonly string[]): void {
    this.#state.release(requestIds)
  }

  /** All nodes that are remembered. */
  snapshot(): FleetSnapshot {
    return this.#state.snapshot(Date.now())
  }

  /** The pruning methods that the nodes of a model can choose masks by; null when none of them is alive. */
  offeredMethods(model: string): string[] | null {
    return this.#state.offeredMethods(model, Date.now())
  }

  /** Settles expired leases from their reservations and forgets nodes long gone. */
  override async alarm(): Promise<void> {
    const nowMs = Date.now()
    const { leases, forgotten } = this.#state.expire(nowMs)
    if (forgotten.length > 0) await this.ctx.storage.delete(forgotten.map((id) => NODE_KEY + id))
    this.#sweepScheduled = false
    if (!this.#state.empty) await this.#scheduleSweep()
    const db = openDatabase(this.env.DB)
    for (const [nodeId, expired] of Map.groupBy(leases, (lease) => lease.nodeId)) {
      const settled = expired.map((lease) => lostReceipt(lease, nowMs))
      try {
        await insertReceipts(db, nodeId, settled, 'estimate', nowMs)
        this.#state.release(settled.map(({ requestId }) => requestId))
      } catch (error) {
        console.error(`${settled.length} lost requests of node '${nodeId}' are settled later:`, error)
      }
    }
  }

  async #scheduleSweep(): Promise<void> {
    this.#sweepScheduled = true
    await this.ctx.storage.setAlarm(Date.now() + SWEEP_MS, { allowUnconfirmed: true })
  }
}

/** What a request is settled with when its node died before it could tell. */
function lostReceipt(lease: Lease, nowMs: number): Receipt {
  const { requestId, account, model, domain, maskVersion, promptTokens } = lease
  return {
    requestId,
    account,
    model,
    domain,
    maskVersion,
    promptTokens,
    completionTokens: 0,
    finishReason: 'error',
    queueMs: 0,
    timeToFirstTokenMs: null,
    totalMs: nowMs - lease.acquiredAtMs,
    drift: null,
  }
}

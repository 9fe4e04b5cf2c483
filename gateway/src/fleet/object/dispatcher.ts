import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import { RetryBudget } from './retry-budget.ts'
import type { AcquireRequest, AcquireResult, NoNode } from '../../contracts/acquire.ts'
import type { FleetState } from './fleet-state.ts'
import { FairQueue } from './fair-queue.ts'

/** How often the queue is checked if no event does so. */
const QUEUE_CHECK_MS = 100

/** The result that a waiting request will get. */
type PendingResult = PromiseWithResolvers<AcquireResult>

/**
 * Leases nodes to requests, at once or after they waited in the fair queue.
 *
 * A request that no node can take waits: for a turn if the fleet is full, or for a node to return if none is available.
 * A request whose estimated wait exceeds its maximum is rejected at once, with the time after which to retry. A request
 * that has no similar request before it in the queue is tried at once: the others could not be served at the last change.
 */
export class Dispatcher {
  readonly #state: FleetState
  readonly #policy: FleetPolicy
  readonly #retries = new RetryBudget()
  readonly #queue: FairQueue<PendingResult>
  #timer: ReturnType<typeof setInterval> | undefined
  readonly #running = (tenant: string) => this.#state.running(tenant)

  constructor(state: FleetState, policy: FleetPolicy) {
    this.#state = state
    this.#policy = policy
    this.#queue = new FairQueue(policy.queueSize)
  }

  /** The number of requests that wait. */
  get queueLength(): number {
    return this.#queue.length
  }

  /** Returns whether an attempt waits for a node. */
  isWaiting(requestId: string): boolean {
    return this.#queue.find(requestId) !== undefined
  }

  /** Leases a node for a request as soon as one can take it, or returns the reason that none will. */
  acquire(request: AcquireRequest): AcquireResult | Promise<AcquireResult> {
    const nowMs = Date.now()
    // The same attempt asks again if the reply was lost: it keeps its position.
    const waiting = this.#queue.find(request.requestId)
    if (waiting) return waiting.pending.promise
    const { tenant = '' } = request
    if (!request.failed) this.#retries.earn(tenant, nowMs)
    else {
      this.#state.fail({ ...request.failed, tenant }, nowMs)
      this.serveQueue()
      if (!this.#retries.spend(tenant, nowMs))
        return { ...this.#state.noNode(request, nowMs), reason: 'retries' }
    }
    const acquired = this.#queue.wouldWait(request)
      ? this.#state.noNode(request, nowMs)
      : this.#state.acquire(request, nowMs)
    if (acquired.ok) return acquired
    const maxWaitMs = this.#maxWaitMs(request, acquired, nowMs)
    if (maxWaitMs === 0) return this.#rejection(acquired, request, nowMs)
    const pending: PendingResult = Promise.withResolvers()
    if (!this.#queue.add({ request, sinceMs: nowMs, untilMs: nowMs + maxWaitMs, pending }))
      return this.#rejection(acquired, request, nowMs)
    this.#timer ??= setInterval(() => this.#checkQueue(), QUEUE_CHECK_MS)
    return pending.promise
  }

  /** Leases nodes to waiting requests; called when something has changed. */
  serveQueue(): void {
    while (this.#queue.length > 0 && this.#serveNext(Date.now()));
    if (this.#queue.length > 0 || this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Removes an attempt from the queue because its client has left. */
  abandon(requestId: string): void {
    const waiting = this.#queue.remove(requestId)
    waiting?.pending.resolve({ ...this.#state.noNode(waiting.request, Date.now()), reason: 'left' })
  }

  #serveNext(nowMs: number): boolean {
    /** Whether a node of a model has room for requests of a priority: where none has, their queues need not be tried one by one. */
    const rooms = new Map<string, boolean>()
    const hasRoom = ({ model, priority }: AcquireRequest): boolean => {
      const key = `${priority} ${model}`
      const known = rooms.get(key) ?? this.#state.hasRoom(model, priority, nowMs)
      rooms.set(key, known)
      return known
    }
    for (const { request, sinceMs, pending } of this.#queue.heads(this.#running)) {
      if (!hasRoom(request)) continue
      const acquired = this.#state.acquire(request, nowMs, sinceMs)
      if (!acquired.ok) continue
      this.#queue.grant(request.requestId)
      pending.resolve(acquired)
      return true
    }
    return false
  }

  #checkQueue(): void {
    this.serveQueue()
    const nowMs = Date.now()
    for (const entry of this.#queue.expired(nowMs)) {
      const { request, sinceMs, pending } = entry
      const none = this.#state.noNode(request, nowMs)
      // It waited for a node to return; one has, and it waits for its turn from now on.
      if (none.reason === 'full' && nowMs < sinceMs + this.#policy.queueMs) {
        entry.untilMs = sinceMs + this.#policy.queueMs
        continue
      }
      this.#queue.remove(request.requestId)
      pending.resolve(this.#rejection(none, request, nowMs))
    }
    this.serveQueue()
  }

  /** Returns how long a request may wait. A named version is not waited for: a node that returns may not hold it. */
  #maxWaitMs(request: AcquireRequest, none: NoNode, nowMs: number): number {
    const { queueMs, nodeWaitMs } = this.#policy
    if (none.reason === 'full') return this.#estimateQueueMs(request, nowMs) > queueMs ? 0 : queueMs
    return none.reason === 'absent' &&
      request.version === undefined &&
      this.#state.nodes.mayReturn(request.model, nowMs)
      ? nodeWaitMs
      : 0
  }

  /** Returns a rejection; if the fleet is full, with the estimated time until the requests that go first are done. */
  #rejection(none: NoNode, request: AcquireRequest, nowMs: number): NoNode {
    if (none.reason !== 'full') return none
    return { ...none, retryAfterMs: Math.max(1_000, this.#estimateQueueMs(request, nowMs)) }
  }

  /** Estimates how long a request that arrives now would wait for its turn. */
  #estimateQueueMs(request: AcquireRequest, nowMs: number): number {
    return this.#state.estimateWaitMs(request, this.#queue.countAhead(request, this.#running) + 1, nowMs)
  }
}

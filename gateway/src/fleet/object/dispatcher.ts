import type { FleetPolicy } from '../../contracts/fleet-policy.ts'
import { RetryBudget } from './retry-budget.ts'
import type { AcquireRequest, Acquired, NoNode } from '../../contracts/acquire.ts'
import type { FleetState } from './fleet-state.ts'
import { FairQueue } from './fair-queue.ts'

/** How often those that wait are looked at when nothing tells of a change. */
const TICK_MS = 100

/** What a request that waits is told. */
type Ticket = PromiseWithResolvers<Acquired>

/**
 * Gives requests their nodes, at once or in turn.
 *
 * A request that no node can take now waits: for a full fleet in a fair line, for an absent one as long as a node takes
 * to be replaced. What would wait for longer than it may is refused at once, with the time after which it would not.
 * Who stands behind nobody is tried at once, whoever else waits: no node could take those when something changed last.
 */
export class Dispatcher {
  readonly #state: FleetState
  readonly #policy: FleetPolicy
  readonly #retries = new RetryBudget()
  readonly #line: FairQueue<Ticket>
  #timer: ReturnType<typeof setInterval> | undefined
  readonly #running = (tenant: string) => this.#state.running(tenant)

  constructor(state: FleetState, policy: FleetPolicy) {
    this.#state = state
    this.#policy = policy
    this.#line = new FairQueue(policy.queueSize)
  }

  /** Leases a node for a request as soon as one can take it, or tells why none will. */
  acquire(request: AcquireRequest): Acquired | Promise<Acquired> {
    const nowMs = Date.now()
    // The same attempt asks again when its answer was lost: it keeps its place.
    const waiting = this.#line.find(request.requestId)
    if (waiting) return waiting.ticket.promise
    if (!request.failed) this.#retries.earn(nowMs)
    else {
      this.#state.fail(request.failed, nowMs)
      this.serve()
      if (!this.#retries.spend(nowMs)) return { ...this.#state.noNode(request, nowMs), reason: 'retries' }
    }
    const acquired = this.#line.isBehind(request)
      ? this.#state.noNode(request, nowMs)
      : this.#state.acquire(request, nowMs)
    if (acquired.ok) return acquired
    const mostMs = this.#mayWaitMs(request, acquired, nowMs)
    if (mostMs === 0) return this.#refusal(acquired, request, nowMs)
    const ticket: Ticket = Promise.withResolvers()
    if (!this.#line.join({ request, sinceMs: nowMs, untilMs: nowMs + mostMs, ticket }))
      return this.#refusal(acquired, request, nowMs)
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
    return ticket.promise
  }

  /** Something changed: whoever can get a node now gets it. */
  serve(): void {
    while (this.#line.length > 0 && this.#serveOne(Date.now()));
    if (this.#line.length > 0 || this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Nobody waits for an attempt any more. */
  abandon(requestId: string): void {
    const waiting = this.#line.leave(requestId)
    waiting?.ticket.resolve({ ...this.#state.noNode(waiting.request, Date.now()), reason: 'left' })
  }

  #serveOne(nowMs: number): boolean {
    for (const { request, sinceMs, ticket } of this.#line.heads(this.#running)) {
      const acquired = this.#state.acquire(request, nowMs, sinceMs)
      if (!acquired.ok) continue
      this.#line.granted(request.requestId)
      ticket.resolve(acquired)
      return true
    }
    return false
  }

  #tick(): void {
    this.serve()
    const nowMs = Date.now()
    for (const entry of this.#line.overdue(nowMs)) {
      const { request, sinceMs, ticket } = entry
      const none = this.#state.noNode(request, nowMs)
      // It waited for a node, one is there, and now it waits for its turn.
      if (none.reason === 'full' && nowMs < sinceMs + this.#policy.queueMs) {
        entry.untilMs = sinceMs + this.#policy.queueMs
        continue
      }
      this.#line.leave(request.requestId)
      ticket.resolve(this.#refusal(none, request, nowMs))
    }
    this.serve()
  }

  /** No node returns with weights that only this request names, so these are not waited for. */
  #mayWaitMs(request: AcquireRequest, none: NoNode, nowMs: number): number {
    const { queueMs, nodeWaitMs } = this.#policy
    if (none.reason === 'full') return this.#turnMs(request, nowMs) > queueMs ? 0 : queueMs
    return none.reason === 'absent' &&
      request.version === undefined &&
      this.#state.mayReturn(request.model, nowMs)
      ? nodeWaitMs
      : 0
  }

  /** For a full fleet, to come back when what goes first of those that wait now will be done. */
  #refusal(none: NoNode, request: AcquireRequest, nowMs: number): NoNode {
    if (none.reason !== 'full') return none
    return { ...none, retryAfterMs: Math.max(1_000, this.#turnMs(request, nowMs)) }
  }

  /** How long it takes until it is the turn of a request that comes now. */
  #turnMs(request: AcquireRequest, nowMs: number): number {
    return this.#state.waitMs(request, this.#line.ahead(request, this.#running) + 1, nowMs)
  }
}

import type { FleetPolicy } from './policy.ts'
import { RetryBudget } from './retry-budget.ts'
import type { AcquireRequest, Acquired, NoNode } from './acquire.ts'
import type { FleetState } from './state.ts'
import { WaitingLine } from './waiting-line.ts'

/** How often those that wait are looked at when nothing tells of a change. */
const TICK_MS = 100

type Answer = (acquired: Acquired) => void

/**
 * Gives requests their nodes, at once or in turn.
 *
 * A request that no node can take now waits: for a full fleet in a fair line, for an absent one as long as a node takes
 * to be replaced. What would wait for longer than it may is refused at once, with the time after which it would not.
 */
export class Dispatcher {
  readonly #state: FleetState
  readonly #policy: FleetPolicy
  readonly #retries = new RetryBudget()
  readonly #line: WaitingLine<Answer>
  #timer: ReturnType<typeof setInterval> | undefined

  constructor(state: FleetState, policy: FleetPolicy) {
    this.#state = state
    this.#policy = policy
    this.#line = new WaitingLine(policy.queueSize)
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#line.length
  }

  /** Leases a node for a request as soon as one can take it, or tells why none will. */
  acquire(request: AcquireRequest): Acquired | Promise<Acquired> {
    const nowMs = Date.now()
    // The same attempt asks again when its answer was lost.
    this.abandon(request.requestId)
    if (!request.failed) this.#retries.earn(nowMs)
    else {
      this.#state.fail(request.failed, nowMs)
      this.serve()
      if (!this.#retries.spend(nowMs)) return { ...this.#state.noNode(request, nowMs), reason: 'retries' }
    }
    const ahead = this.#line.waitingFor(request.model)
    const acquired = ahead === 0 ? this.#state.acquire(request, nowMs) : undefined
    if (acquired?.ok) return acquired
    const none = acquired ?? this.#state.noNode(request, nowMs)
    const mostMs = this.#mayWaitMs(request, none, ahead, nowMs)
    if (mostMs === 0) return this.#refusal(none, request.model, ahead + 1, nowMs)
    const { promise, resolve } = Promise.withResolvers<Acquired>()
    if (!this.#line.join({ request, sinceMs: nowMs, untilMs: nowMs + mostMs, ticket: resolve }))
      return this.#refusal({ ...none, reason: 'full' }, request.model, ahead, nowMs)
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS)
    if (ahead > 0) this.serve()
    return promise
  }

  /** Something changed: whoever can get a node now gets it. */
  serve(): void {
    while (this.#line.length > 0 && this.#serveOne(Date.now()));
    if (this.#line.length > 0 || this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Nobody waits for an attempt any more. Tells whether no node had it. */
  abandon(requestId: string): boolean {
    const waiting = this.#line.leave(requestId)
    waiting?.ticket(this.#state.noNode(waiting.request, Date.now()))
    return waiting !== undefined
  }

  #serveOne(nowMs: number): boolean {
    for (const { request, sinceMs, ticket } of this.#line.heads((tenant) => this.#state.running(tenant))) {
      const acquired = this.#state.acquire(request, nowMs, sinceMs)
      if (!acquired.ok) continue
      this.#line.granted(request.requestId)
      ticket(acquired)
      return true
    }
    return false
  }

  #tick(): void {
    this.serve()
    const nowMs = Date.now()
    for (const entry of this.#line.overdue(nowMs)) {
      const { model, requestId } = entry.request
      const none = this.#state.noNode(entry.request, nowMs)
      // It waited for a node, one is there, and now it waits for its turn.
      if (none.reason === 'full' && nowMs < entry.sinceMs + this.#policy.queueMs) {
        entry.untilMs = entry.sinceMs + this.#policy.queueMs
        continue
      }
      this.#line.leave(requestId)
      entry.ticket(this.#refusal(none, model, this.#line.waitingFor(model) + 1, nowMs))
    }
    this.serve()
  }

  /** No node returns with weights that only this request names, so these are not waited for. */
  #mayWaitMs({ model, version }: AcquireRequest, none: NoNode, ahead: number, nowMs: number): number {
    const { queueMs, nodeWaitMs } = this.#policy
    if (none.reason === 'full') return this.#state.waitMs(model, ahead + 1, nowMs) > queueMs ? 0 : queueMs
    return none.reason === 'absent' && version === undefined && this.#state.mayReturn(model, nowMs)
      ? nodeWaitMs
      : 0
  }

  /** For a full fleet, to come back when what waits now will be done. */
  #refusal(none: NoNode, model: string, ahead: number, nowMs: number): NoNode {
    if (none.reason !== 'full') return none
    return { ...none, retryAfterMs: Math.max(1_000, this.#state.waitMs(model, ahead, nowMs)) }
  }
}

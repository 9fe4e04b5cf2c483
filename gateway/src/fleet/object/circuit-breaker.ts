/** Consecutive failures that open a breaker. */
const FAILURE_THRESHOLD = 3
const MIN_PAUSE_MS = 1_000
const MAX_PAUSE_MS = 30_000

/** Open: no request is sent. Half open: one may be, as a probe, or is on its way. */
export type BreakerState = 'closed' | 'half_open' | 'open'

/**
 * A circuit breaker for requests to one node, see `node-breakers.ts`. Pure: it has no clock of its own.
 *
 * Three consecutive failures open it, and the node gets no request for a second. Then it is half open and lets one
 * request at a time through as a probe. A probe that gets a token closes it. A probe that fails opens it again, twice as
 * long as before, up to 30 seconds.
 */
export class CircuitBreaker {
  #failures = 0
  #pauseMs = 0
  #openUntilMs = 0
  #probe: string | undefined

  /** Returns whether a request may be sent. */
  allows(nowMs: number): boolean {
    return this.#failures < FAILURE_THRESHOLD || (nowMs >= this.#openUntilMs && this.#probe === undefined)
  }

  /** Returns its state. */
  state(nowMs: number): BreakerState {
    if (this.#failures < FAILURE_THRESHOLD) return 'closed'
    return this.#probe !== undefined || nowMs >= this.#openUntilMs ? 'half_open' : 'open'
  }

  /** Returns when the next probe may be sent; undefined while a probe is running or the breaker is closed. */
  nextProbeAtMs(): number | undefined {
    return this.#failures < FAILURE_THRESHOLD || this.#probe !== undefined ? undefined : this.#openUntilMs
  }

  /** Records a request that was sent; it is the probe if the breaker is half open. */
  recordSent(leaseId: string): void {
    if (this.#failures >= FAILURE_THRESHOLD) this.#probe = leaseId
  }

  /**
   * Records the first token of a request. A probe succeeds with it, because its output may take minutes to end.
   *
   * @returns whether it was the probe, which closed the breaker
   */
  recordToken(leaseId: string): boolean {
    if (this.#probe !== leaseId) return false
    this.recordSuccess()
    return true
  }

  /** Records a completed request and closes the breaker. */
  recordSuccess(): void {
    this.#failures = 0
    this.#pauseMs = 0
    this.#probe = undefined
  }

  /** Records a failed request. Failures of requests that were sent before the breaker opened do not extend its pause. */
  recordFailure(leaseId: string, nowMs: number): void {
    const isOpen = this.#failures >= FAILURE_THRESHOLD
    if (!isOpen) this.#failures += 1
    if (this.#failures < FAILURE_THRESHOLD || (isOpen && this.#probe !== leaseId)) return
    this.#probe = undefined
    this.#pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, 2 * this.#pauseMs))
    this.#openUntilMs = nowMs + this.#pauseMs
  }

  /** Records the end of a request that says nothing about the node. */
  recordEnd(leaseId: string): void {
    if (this.#probe === leaseId) this.#probe = undefined
  }
}

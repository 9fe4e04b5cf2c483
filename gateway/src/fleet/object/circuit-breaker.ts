/** Failures in a row that open a breaker. */
const THRESHOLD = 3
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000

/**
 * The circuit breaker of one node: pure, without a clock of its own.
 *
 * Three failures in a row open it, and the node gets nothing for a second. Then it is half open: one request at a
 * time may try. One that has a token closes it, one that fails opens it for twice as long as before, up to half a minute.
 */
export class CircuitBreaker {
  #failures = 0
  #pauseMs = 0
  #openUntilMs = 0
  #probe: string | undefined

  /** Whether a request may be sent. */
  allows(nowMs: number): boolean {
    return this.#failures < THRESHOLD || (nowMs >= this.#openUntilMs && this.#probe === undefined)
  }

  /** When a request may be sent at the earliest; undefined while a probe is out or the breaker is closed. */
  opensAgainMs(): number | undefined {
    return this.#failures < THRESHOLD || this.#probe !== undefined ? undefined : this.#openUntilMs
  }

  /** A request was sent. */
  sent(leaseId: string): void {
    if (this.#failures >= THRESHOLD) this.#probe = leaseId
  }

  /** A request has a token: an answer may take minutes, and whoever tries need not wait for its end. */
  answers(leaseId: string): void {
    if (this.#probe === leaseId) this.succeeded()
  }

  succeeded(): void {
    this.#failures = 0
    this.#pauseMs = 0
    this.#probe = undefined
  }

  /** Failures of requests that were sent before it opened do not open it for longer. */
  failed(leaseId: string, nowMs: number): void {
    const isOpen = this.#failures >= THRESHOLD
    if (!isOpen) this.#failures += 1
    if (this.#failures < THRESHOLD || (isOpen && this.#probe !== leaseId)) return
    this.#probe = undefined
    this.#pauseMs = Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs))
    this.#openUntilMs = nowMs + this.#pauseMs
  }

  /** A request ended and tells nothing of the node. */
  ended(leaseId: string): void {
    if (this.#probe === leaseId) this.#probe = undefined
  }
}

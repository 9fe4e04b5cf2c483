/** Retries that each request earns. */
const EARNED = 0.2
/** Retries that a second earns: a fleet with little traffic can still save it. */
const EARNED_A_SECOND = 10
const MOST = 200

/**
 * How many requests may be tried again: pure, without a clock of its own.
 *
 * A fleet that fails under its load would fail more under the load of everything tried again, so retries are at most
 * a fifth of the requests, beside a reserve that lets a node die with what it had.
 */
export class RetryBudget {
  #retries = MOST
  #atMs = -Infinity

  /** A request came for the first time. */
  earn(nowMs: number): void {
    this.#refill(nowMs)
    this.#retries = Math.min(MOST, this.#retries + EARNED)
  }

  /** Takes one retry; false when none is left. */
  spend(nowMs: number): boolean {
    this.#refill(nowMs)
    if (this.#retries < 1) return false
    this.#retries -= 1
    return true
  }

  #refill(nowMs: number): void {
    const seconds = Number.isFinite(this.#atMs) ? Math.max(0, nowMs - this.#atMs) / 1000 : 0
    this.#retries = Math.min(MOST, this.#retries + seconds * EARNED_A_SECOND)
    this.#atMs = nowMs
  }
}

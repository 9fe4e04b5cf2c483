/** Requests that earn one retry; what is left is counted in these, so that sums of parts are exact. */
const REQUESTS_A_RETRY = 5
/** Retries that a second earns: a fleet with little traffic can still save it. */
const RETRIES_A_SECOND = 10
const MOST_RETRIES = 200

/**
 * How many requests may be tried again: pure, without a clock of its own.
 *
 * A fleet that fails under its load would fail more under the load of everything tried again, so retries are at most
 * a fifth of the requests, beside a reserve that lets a node die with what it had.
 */
export class RetryBudget {
  #requests = MOST_RETRIES * REQUESTS_A_RETRY
  #atMs = -Infinity

  /** A request came for the first time. */
  earn(nowMs: number): void {
    this.#add(nowMs, 1)
  }

  /** Takes one retry; false when none is left. */
  spend(nowMs: number): boolean {
    this.#add(nowMs, 0)
    if (this.#requests < REQUESTS_A_RETRY) return false
    this.#requests -= REQUESTS_A_RETRY
    return true
  }

  #add(nowMs: number, requests: number): void {
    const seconds = Number.isFinite(this.#atMs) ? Math.max(0, nowMs - this.#atMs) / 1000 : 0
    const earned = requests + seconds * RETRIES_A_SECOND * REQUESTS_A_RETRY
    this.#requests = Math.min(MOST_RETRIES * REQUESTS_A_RETRY, this.#requests + earned)
    this.#atMs = nowMs
  }
}

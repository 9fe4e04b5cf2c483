/** Requests that earn one retry. The balance is counted in requests, so that fractions of retries add up exactly. */
const REQUESTS_PER_RETRY = 5
/** Retries that each second earns, so that a fleet with little traffic can retry too. */
const RETRIES_PER_SECOND = 10
const MAX_RETRIES = 200

/**
 * The budget of retries. Pure: it has no clock of its own.
 *
 * A fleet that fails under load would fail more under the added load of retries. So retries are at most a fifth of the
 * requests, plus a reserve that covers the requests of a node that dies.
 */
export class RetryBudget {
  #balance = MAX_RETRIES * REQUESTS_PER_RETRY
  #atMs = -Infinity

  /** Adds the share of a retry that a first attempt earns. */
  earn(nowMs: number): void {
    this.#add(nowMs, 1)
  }

  /** Takes one retry; returns false if none is left. */
  spend(nowMs: number): boolean {
    this.#add(nowMs, 0)
    if (this.#balance < REQUESTS_PER_RETRY) return false
    this.#balance -= REQUESTS_PER_RETRY
    return true
  }

  #add(nowMs: number, requests: number): void {
    const seconds = Number.isFinite(this.#atMs) ? Math.max(0, nowMs - this.#atMs) / 1000 : 0
    const earned = requests + seconds * RETRIES_PER_SECOND * REQUESTS_PER_RETRY
    this.#balance = Math.min(MAX_RETRIES * REQUESTS_PER_RETRY, this.#balance + earned)
    this.#atMs = nowMs
  }
}

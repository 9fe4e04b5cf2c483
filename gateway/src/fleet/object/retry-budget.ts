/** Requests that earn one retry. Balances are counted in requests, so that fractions of retries add up exactly. */
const REQUESTS_PER_RETRY = 5
/** Retries that each second earns, so that a fleet with little traffic can retry too. */
const RETRIES_PER_SECOND = 10
/** The retries that all tenants together may be ahead of what they have earned; one tenant alone may be half of it. */
const MAX_RETRIES = 400

/**
 * The budget of retries, shared by the tenants. Pure: it has no clock of its own.
 *
 * A fleet that fails under load would fail more under the added load of retries. So a tenant's retries are at most a fifth
 * of its requests, plus what it may borrow of a reserve, which covers the requests of a node that dies. A tenant may borrow
 * only as much as is left for the others (the dynamic threshold of shared packet buffers): one tenant whose requests all
 * fail gets half of the reserve, two get a third each, and no tenant can use it up.
 */
export class RetryBudget {
  /** The debt of each tenant, in requests; tenants without debt are left out. */
  readonly #debts = new Map<string, number>()
  #atMs = -Infinity

  /** Returns the share of a retry that a first attempt earns to what its tenant has borrowed. */
  earn(tenant: string, nowMs: number): void {
    this.#refill(nowMs)
    this.#repay(tenant, 1)
  }

  /** Takes one retry for a tenant; returns false if none is left for it. */
  spend(tenant: string, nowMs: number): boolean {
    this.#refill(nowMs)
    let borrowed = 0
    for (const debt of this.#debts.values()) borrowed += debt
    const own = (this.#debts.get(tenant) ?? 0) + REQUESTS_PER_RETRY
    if (own > MAX_RETRIES * REQUESTS_PER_RETRY - borrowed) return false
    this.#debts.set(tenant, own)
    return true
  }

  /** Shares what the time since the last call earned among the tenants that have borrowed. */
  #refill(nowMs: number): void {
    const seconds = Number.isFinite(this.#atMs) ? Math.max(0, nowMs - this.#atMs) / 1000 : 0
    this.#atMs = nowMs
    const share = (seconds * RETRIES_PER_SECOND * REQUESTS_PER_RETRY) / this.#debts.size
    if (share > 0) for (const tenant of this.#debts.keys()) this.#repay(tenant, share)
  }

  #repay(tenant: string, requests: number): void {
    const debt = (this.#debts.get(tenant) ?? 0) - requests
    if (debt > 0) this.#debts.set(tenant, debt)
    else this.#debts.delete(tenant)
  }
}

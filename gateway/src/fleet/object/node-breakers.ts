import { CircuitBreaker, type BreakerState } from './circuit-breaker.ts'

/** How often a tenant's failures count for all, until a request succeeds: one fewer than opens a breaker. */
const MAX_COUNTED_FAILURES = 2
/** Tenants whose failures on one node are remembered; beyond it the one that failed first is forgotten. */
const MAX_TENANTS = 1_024

/**
 * The circuit breakers of one node: one for all requests, and one for each tenant whose requests fail there. Pure.
 *
 * A tenant whose requests make a node fail is kept from that node by its own breaker. The breaker for all opens only when
 * requests of at least two tenants fail in a row, because the failures of one tenant count there at most twice. In a fleet
 * with one tenant its own breaker is the only one that opens, with the same effect. A node that is gone is found by its
 * heartbeats and broken connections, whoever called it.
 */
export class NodeBreakers {
  readonly #all = new CircuitBreaker()
  readonly #byTenant = new Map<string, CircuitBreaker>()
  /** The failures of each tenant that counted for all since the last success. */
  readonly #counted = new Map<string, number>()

  /** Returns the state of the breaker for all tenants. */
  state(nowMs: number): BreakerState {
    return this.#all.state(nowMs)
  }

  /** Returns whether a request of a tenant may be sent. */
  allows(tenant: string, nowMs: number): boolean {
    return this.#all.allows(nowMs) && (this.#byTenant.get(tenant)?.allows(nowMs) ?? true)
  }

  /** Returns when the next probe of a tenant may be sent; undefined while none is awaited. */
  nextProbeAtMs(tenant: string): number | undefined {
    const times = [this.#all, this.#byTenant.get(tenant)].flatMap((breaker) => breaker?.nextProbeAtMs() ?? [])
    return times.length === 0 ? undefined : Math.max(...times)
  }

  /** Records a request that was sent; it is a probe where a breaker is half open. */
  recordSent(leaseId: string, tenant: string): void {
    this.#all.recordSent(leaseId)
    this.#byTenant.get(tenant)?.recordSent(leaseId)
  }

  /** Records the first token of a request. */
  recordToken(leaseId: string, tenant: string): void {
    if (this.#all.recordToken(leaseId)) this.#counted.clear()
    if (this.#byTenant.get(tenant)?.recordToken(leaseId)) this.#byTenant.delete(tenant)
  }

  /** Records a completed request of a tenant. */
  recordSuccess(tenant: string): void {
    this.#all.recordSuccess()
    this.#counted.clear()
    this.#byTenant.delete(tenant)
  }

  /** Records a failed request of a tenant. */
  recordFailure(leaseId: string, tenant: string, nowMs: number): void {
    this.#breakerOf(tenant).recordFailure(leaseId, nowMs)
    const counted = this.#counted.get(tenant) ?? 0
    if (counted >= MAX_COUNTED_FAILURES) return this.#all.recordEnd(leaseId)
    this.#counted.set(tenant, counted + 1)
    this.#all.recordFailure(leaseId, nowMs)
  }

  /** Records the end of a request that says nothing about the node. */
  recordEnd(leaseId: string, tenant: string): void {
    this.#all.recordEnd(leaseId)
    this.#byTenant.get(tenant)?.recordEnd(leaseId)
  }

  #breakerOf(tenant: string): CircuitBreaker {
    const known = this.#byTenant.get(tenant)
    if (known) return known
    const [oldest] = this.#byTenant.keys()
    if (this.#byTenant.size >= MAX_TENANTS && oldest !== undefined) {
      this.#byTenant.delete(oldest)
      this.#counted.delete(oldest)
    }
    const breaker = new CircuitBreaker()
    this.#byTenant.set(tenant, breaker)
    return breaker
  }
}

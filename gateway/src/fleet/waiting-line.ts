import type { AcquireRequest } from './acquire.ts'

/** One request in line. */
export interface Waiting<T> {
  readonly request: AcquireRequest
  readonly sinceMs: number
  /** When it is refused. */
  untilMs: number
  readonly ticket: T
}

/** What one tenant may hold of a line, so that there is always room for others. */
const SHARE = 0.5

/**
 * Requests that wait for a node: pure, without a clock of its own.
 *
 * Whose turn it is: interactive requests before batch ones; among these a request of the tenant that has the fewest
 * running, and of such tenants the one served longest ago; within a tenant who came first.
 */
export class WaitingLine<T> {
  readonly #entries = new Map<string, Waiting<T>>()
  readonly #perTenant = new Map<string, number>()
  readonly #size: number
  /** Grants so far, and the last one of each tenant that waits. */
  #grants = 0
  readonly #lastGrant = new Map<string, number>()

  constructor(size: number) {
    this.#size = size
  }

  get length(): number {
    return this.#entries.size
  }

  /** How many requests of a model wait. */
  waitingFor(model: string): number {
    let count = 0
    for (const { request } of this.#entries.values()) if (request.model === model) count += 1
    return count
  }

  /** False when there is no room, for anybody or for this tenant. */
  join(entry: Waiting<T>): boolean {
    const tenant = entry.request.tenant ?? ''
    const own = this.#perTenant.get(tenant) ?? 0
    if (this.#entries.size >= this.#size || own >= Math.max(1, this.#size * SHARE)) return false
    this.#entries.set(entry.request.requestId, entry)
    this.#perTenant.set(tenant, own + 1)
    return true
  }

  /** Takes a request out; undefined when it does not wait. */
  leave(requestId: string): Waiting<T> | undefined {
    const entry = this.#entries.get(requestId)
    if (!entry) return undefined
    this.#entries.delete(requestId)
    const tenant = entry.request.tenant ?? ''
    const own = (this.#perTenant.get(tenant) ?? 1) - 1
    if (own > 0) this.#perTenant.set(tenant, own)
    else {
      this.#perTenant.delete(tenant)
      this.#lastGrant.delete(tenant)
    }
    return entry
  }

  /** A request got its node. */
  granted(requestId: string): void {
    const entry = this.leave(requestId)
    const tenant = entry?.request.tenant ?? ''
    if (entry && this.#perTenant.has(tenant)) this.#lastGrant.set(tenant, ++this.#grants)
  }

  /** Those whose time is over. */
  overdue(nowMs: number): Waiting<T>[] {
    return [...this.#entries.values()].filter(({ untilMs }) => nowMs >= untilMs)
  }

  /**
   * The first request of every tenant and class, in the order of their turns; the next ones of a tenant follow once
   * that is gone.
   *
   * @param running requests of a tenant that have a node
   */
  heads(running: (tenant: string) => number): Waiting<T>[] {
    const heads = new Map<string, Waiting<T>>()
    for (const entry of this.#entries.values()) {
      const { tenant = '', model, priority, exclude } = entry.request
      // One that must not go where it failed holds up nobody who may.
      const key = JSON.stringify([tenant, model, priority ?? 'interactive', exclude.length > 0])
      if (!heads.has(key)) heads.set(key, entry)
    }
    const rank = ({ request: { tenant = '', priority } }: Waiting<T>) =>
      [priority === 'batch' ? 1 : 0, running(tenant), this.#lastGrant.get(tenant) ?? 0] as const
    return [...heads.values()].toSorted((a, b) => {
      const [first, second] = [rank(a), rank(b)]
      return first[0] - second[0] || first[1] - second[1] || first[2] - second[2]
    })
  }
}

import type { AcquireRequest } from '../../contracts/acquire.ts'
import { tenantOf } from './leases.ts'

/** A waiting request. */
export interface QueuedRequest<T> {
  readonly request: AcquireRequest
  readonly sinceMs: number
  /** When it is rejected. */
  untilMs: number
  readonly pending: T
}

/** The maximum share of the queue for one tenant, and for batch requests, so that there is always room for others. */
const MAX_SHARE = 0.5

/**
 * The requests that wait for a node. Pure: it has no clock of its own.
 *
 * Order: interactive requests before batch requests, then the tenant with the fewest running requests, then the tenant
 * that was served longest ago, then the request that arrived first.
 */
export class FairQueue<T> {
  readonly #entries = new Map<string, QueuedRequest<T>>()
  /** The entries by queue key, in order of arrival; no set is empty. */
  readonly #queues = new Map<string, Set<QueuedRequest<T>>>()
  readonly #countByTenant = new Map<string, number>()
  #batchCount = 0
  readonly #size: number
  #grants = 0
  /** The number of the last grant of each waiting tenant. */
  readonly #lastGrant = new Map<string, number>()

  constructor(size: number) {
    this.#size = size
  }

  /** The number of waiting requests. */
  get length(): number {
    return this.#entries.size
  }

  /** Returns a waiting request. */
  find(requestId: string): QueuedRequest<T> | undefined {
    return this.#entries.get(requestId)
  }

  /** Returns whether a request that arrives now would queue behind another. */
  wouldWait(request: AcquireRequest): boolean {
    return this.#queues.has(queueKey(request))
  }

  /**
   * Counts the waiting requests for the same weights that would be served before a request that arrives now, if nodes
   * for all of them became free at once: all of its own tenant, and of each other tenant those that are served before
   * that tenant has more running requests.
   *
   * @param running returns the number of requests of a tenant that have a node
   */
  countAhead(request: AcquireRequest, running: (tenant: string) => number): number {
    const { model, version } = request
    const tenant = tenantOf(request)
    const turns = new Map<string, number>()
    const takeTurn = (name: string): number => {
      const turn = turns.get(name) ?? running(name)
      turns.set(name, turn + 1)
      return turn
    }
    let ahead = 0
    const otherTenants: string[] = []
    for (const { request: other } of this.#entries.values()) {
      if (other.model !== model || other.version !== version || priorityRank(other) > priorityRank(request))
        continue
      const otherTenant = tenantOf(other)
      if (otherTenant !== tenant && priorityRank(other) === priorityRank(request)) {
        otherTenants.push(otherTenant)
        continue
      }
      takeTurn(otherTenant)
      ahead += 1
    }
    const turn = takeTurn(tenant)
    for (const otherTenant of otherTenants) {
      const otherTurn = takeTurn(otherTenant)
      const servedEarlier = this.#servedAt(otherTenant) <= this.#servedAt(tenant)
      if (otherTurn < turn || (otherTurn === turn && servedEarlier)) ahead += 1
    }
    return ahead
  }

  /** Adds a request; returns false if the queue, or the share of its tenant or of batch requests, is full. */
  add(entry: QueuedRequest<T>): boolean {
    const { request } = entry
    const tenant = tenantOf(request)
    const own = this.#countByTenant.get(tenant) ?? 0
    const share = Math.max(1, this.#size * MAX_SHARE)
    if (
      this.#entries.size >= this.#size ||
      own >= share ||
      (priorityRank(request) > 0 && this.#batchCount >= share)
    )
      return false
    this.#entries.set(request.requestId, entry)
    const queue = queueKey(request)
    this.#queues.set(queue, (this.#queues.get(queue) ?? new Set()).add(entry))
    this.#countByTenant.set(tenant, own + 1)
    this.#batchCount += priorityRank(request)
    return true
  }

  /** Removes a request and returns it; undefined if it does not wait. */
  remove(requestId: string): QueuedRequest<T> | undefined {
    const entry = this.#entries.get(requestId)
    if (!entry) return undefined
    const { request } = entry
    this.#entries.delete(requestId)
    const queue = queueKey(request)
    const behind = this.#queues.get(queue)
    behind?.delete(entry)
    if (behind?.size === 0) this.#queues.delete(queue)
    this.#batchCount -= priorityRank(request)
    const tenant = tenantOf(request)
    const own = (this.#countByTenant.get(tenant) ?? 1) - 1
    if (own > 0) this.#countByTenant.set(tenant, own)
    else {
      this.#countByTenant.delete(tenant)
      this.#lastGrant.delete(tenant)
    }
    return entry
  }

  /** Removes a request that got its node, and records when its tenant was served. */
  grant(requestId: string): void {
    const entry = this.remove(requestId)
    if (!entry) return
    const tenant = tenantOf(entry.request)
    if (this.#countByTenant.has(tenant)) this.#lastGrant.set(tenant, ++this.#grants)
  }

  /** Returns the requests whose maximum wait is over. */
  expired(nowMs: number): QueuedRequest<T>[] {
    return [...this.#entries.values()].filter(({ untilMs }) => nowMs >= untilMs)
  }

  /**
   * Returns the first request of every queue, in the order in which to serve them.
   *
   * @param running returns the number of requests of a tenant that have a node
   */
  heads(running: (tenant: string) => number): QueuedRequest<T>[] {
    const ranked = Array.from(this.#queues.values()).flatMap(([entry]) => {
      if (!entry) return []
      const { request, sinceMs } = entry
      const tenant = tenantOf(request)
      return [
        { entry, rank: [priorityRank(request), running(tenant), this.#servedAt(tenant), sinceMs] as const },
      ]
    })
    ranked.sort(({ rank: a }, { rank: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3])
    return ranked.map(({ entry }) => entry)
  }

  #servedAt(tenant: string): number {
    return this.#lastGrant.get(tenant) ?? 0
  }
}

/** Returns the key of a request's queue. Retries have a queue of their own, so that their excluded nodes block no others. */
function queueKey(request: AcquireRequest): string {
  const { model, version, exclude } = request
  return JSON.stringify([
    tenantOf(request),
    model,
    version ?? null,
    priorityRank(request),
    exclude.length > 0,
  ])
}

/** Returns the rank of a request's priority; lower ranks go first. */
function priorityRank({ priority }: AcquireRequest): number {
  return priority === 'batch' ? 1 : 0
}

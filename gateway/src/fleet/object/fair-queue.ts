import type { AcquireRequest } from '../../contracts/acquire.ts'

/** One request in line. */
export interface QueuedRequest<T> {
  readonly request: AcquireRequest
  readonly sinceMs: number
  /** When it is refused. */
  untilMs: number
  readonly ticket: T
}

/** What one tenant, or batch, may hold of a line, so that there is always room for others. */
const SHARE = 0.5

/**
 * Requests that wait for a node: pure, without a clock of its own.
 *
 * Whose turn it is: interactive requests before batch ones; among these a request of the tenant that has the fewest
 * running, and of such tenants the one served longest ago; within a tenant who came first.
 */
export class FairQueue<T> {
  readonly #entries = new Map<string, QueuedRequest<T>>()
  /** The same by who stands behind whom, none of them empty. */
  readonly #queues = new Map<string, Set<QueuedRequest<T>>>()
  readonly #perTenant = new Map<string, number>()
  #batch = 0
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

  /** A request that waits. */
  find(requestId: string): QueuedRequest<T> | undefined {
    return this.#entries.get(requestId)
  }

  /** Whether a request that comes now would stand behind another. */
  isBehind(request: AcquireRequest): boolean {
    return this.#queues.has(queueOf(request))
  }

  /**
   * How many of those that wait for the same weights would have their turn before a request that comes now, if places for
   * all of them came free at once: those of its tenant, and of each other those that it is given before it has more
   * running.
   *
   * @param running requests of a tenant that have a node
   */
  ahead(request: AcquireRequest, running: (tenant: string) => number): number {
    const { model, version } = request
    const tenant = tenantOf(request)
    const turns = new Map<string, number>()
    const takeTurn = (of: string): number => {
      const turn = turns.get(of) ?? running(of)
      turns.set(of, turn + 1)
      return turn
    }
    let ahead = 0
    const rivals: string[] = []
    for (const { request: other } of this.#entries.values()) {
      if (other.model !== model || other.version !== version || classOf(other) > classOf(request)) continue
      const of = tenantOf(other)
      if (of !== tenant && classOf(other) === classOf(request)) {
        rivals.push(of)
        continue
      }
      takeTurn(of)
      ahead += 1
    }
    const turn = takeTurn(tenant)
    for (const of of rivals) {
      const its = takeTurn(of)
      if (its < turn || (its === turn && this.#servedAt(of) <= this.#servedAt(tenant))) ahead += 1
    }
    return ahead
  }

  /** False when there is no room, for anybody, for this tenant or for batch. */
  join(entry: QueuedRequest<T>): boolean {
    const { request } = entry
    const tenant = tenantOf(request)
    const own = this.#perTenant.get(tenant) ?? 0
    const share = Math.max(1, this.#size * SHARE)
    if (this.#entries.size >= this.#size || own >= share || (classOf(request) > 0 && this.#batch >= share))
      return false
    this.#entries.set(request.requestId, entry)
    const queue = queueOf(request)
    this.#queues.set(queue, (this.#queues.get(queue) ?? new Set()).add(entry))
    this.#perTenant.set(tenant, own + 1)
    this.#batch += classOf(request)
    return true
  }

  /** Takes a request out; undefined when it does not wait. */
  leave(requestId: string): QueuedRequest<T> | undefined {
    const entry = this.#entries.get(requestId)
    if (!entry) return undefined
    const { request } = entry
    this.#entries.delete(requestId)
    const queue = queueOf(request)
    const behind = this.#queues.get(queue)
    behind?.delete(entry)
    if (behind?.size === 0) this.#queues.delete(queue)
    this.#batch -= classOf(request)
    const tenant = tenantOf(request)
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
    if (!entry) return
    const tenant = tenantOf(entry.request)
    if (this.#perTenant.has(tenant)) this.#lastGrant.set(tenant, ++this.#grants)
  }

  /** Those whose time is over. */
  overdue(nowMs: number): QueuedRequest<T>[] {
    return [...this.#entries.values()].filter(({ untilMs }) => nowMs >= untilMs)
  }

  /**
   * The first request of every queue, in the order of their turns; the next ones of a queue follow once that is gone.
   *
   * @param running requests of a tenant that have a node
   */
  heads(running: (tenant: string) => number): QueuedRequest<T>[] {
    const rank = ({ request, sinceMs }: QueuedRequest<T>) => {
      const tenant = tenantOf(request)
      return [classOf(request), running(tenant), this.#servedAt(tenant), sinceMs] as const
    }
    return [...this.#queues.values()]
      .flatMap((queue) => [...queue].slice(0, 1))
      .toSorted((a, b) => {
        const [first, second] = [rank(a), rank(b)]
        return first[0] - second[0] || first[1] - second[1] || first[2] - second[2] || first[3] - second[3]
      })
  }

  #servedAt(tenant: string): number {
    return this.#lastGrant.get(tenant) ?? 0
  }
}

/** Who wait for the same, one behind the other. One that must not go where it failed holds up nobody who may. */
function queueOf(request: AcquireRequest): string {
  const { model, version, exclude } = request
  return JSON.stringify([tenantOf(request), model, version ?? null, classOf(request), exclude.length > 0])
}

function tenantOf({ tenant = '' }: AcquireRequest): string {
  return tenant
}

/** Lower ones go first. */
function classOf({ priority }: AcquireRequest): number {
  return priority === 'batch' ? 1 : 0
}

import type { Refusal } from '../limits/reservation.ts'
import type { NoNode } from './acquire.ts'

/** Which limit, or why no node, refused a request; `left`: nobody refused it, its client went while it waited. */
export type RefusalReason = Refusal['limit'] | NoNode['reason']

/** Requests of a tenant for a model that were refused for one reason. */
export interface RefusalCount {
  tenant: string
  model: string
  reason: RefusalReason
  requests: number
}

/** Counts requests that got no node, for metrics: from zero when the object starts anew, as Prometheus expects of counters. */
export class Refusals {
  readonly #counts = new Map<string, RefusalCount>()

  count({ tenant = '', model }: { tenant?: string | undefined; model: string }, reason: RefusalReason): void {
    if (reason === 'left') return
    const key = JSON.stringify([tenant, model, reason])
    const count = this.#counts.get(key) ?? { tenant, model, reason, requests: 0 }
    count.requests += 1
    this.#counts.set(key, count)
  }

  list(): RefusalCount[] {
    return [...this.#counts.values()].map((count) => ({ ...count }))
  }
}

import type { RejectionReason, RejectionCount } from '../../contracts/fleet-object.ts'

/** The model of requests for one that no node has: clients may invent any name. */
const UNKNOWN_MODEL = '(unknown)'
/** Tenants and models are told apart until there are so many counts. */
const MOST_COUNTS = 10_000
const OTHER = '(other)'

/** Counts requests that got no node, for metrics: from zero when the object starts anew, as Prometheus expects of counters. */
export class RejectionCounts {
  readonly #counts = new Map<string, RejectionCount>()
  readonly #isServed: (model: string) => boolean
  readonly #mostCounts: number

  /** @param isServed whether some node has a model */
  constructor(isServed: (model: string) => boolean, mostCounts = MOST_COUNTS) {
    this.#isServed = isServed
    this.#mostCounts = mostCounts
  }

  count(
    { tenant = '', model }: { tenant?: string | undefined; model: string },
    reason: RejectionReason,
  ): void {
    if (reason === 'left') return
    const named = { tenant, model: this.#isServed(model) ? model : UNKNOWN_MODEL, reason }
    const isTold = this.#counts.has(keyOf(named)) || this.#counts.size < this.#mostCounts
    const of = isTold ? named : { tenant: OTHER, model: OTHER, reason }
    const { requests } = this.#counts.get(keyOf(of)) ?? { requests: 0 }
    this.#counts.set(keyOf(of), { ...of, requests: requests + 1 })
  }

  list(): RejectionCount[] {
    return [...this.#counts.values()]
  }
}

function keyOf({ tenant, model, reason }: Omit<RejectionCount, 'requests'>): string {
  return JSON.stringify([tenant, model, reason])
}

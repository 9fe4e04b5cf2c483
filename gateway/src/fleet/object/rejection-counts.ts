import type { RejectionReason, RejectionCount } from '../../contracts/fleet-object.ts'

/** Stands for models that no node has: clients may invent any name. */
const UNKNOWN_MODEL = '(unknown)'
/** The number of counts after which further tenants and models are counted as `(other)`. */
const MAX_COUNTS = 10_000
const OTHER = '(other)'

/** Counts rejected requests for metrics. Starts from zero when the object restarts, as Prometheus expects of counters. */
export class RejectionCounts {
  readonly #counts = new Map<string, RejectionCount>()
  readonly #isServed: (model: string) => boolean
  readonly #maxCounts: number

  /** @param isServed returns whether any node has a model */
  constructor(isServed: (model: string) => boolean, maxCounts = MAX_COUNTS) {
    this.#isServed = isServed
    this.#maxCounts = maxCounts
  }

  /** Counts rejected requests; those whose clients left are not counted. */
  count(
    { tenant = '', model }: { tenant?: string | undefined; model: string },
    reason: RejectionReason,
    rejected = 1,
  ): void {
    if (reason === 'left') return
    const named = { tenant, model: this.#isServed(model) ? model : UNKNOWN_MODEL, reason }
    const isCounted = this.#counts.has(keyOf(named)) || this.#counts.size < this.#maxCounts
    const labels = isCounted ? named : { tenant: OTHER, model: OTHER, reason }
    const { requests } = this.#counts.get(keyOf(labels)) ?? { requests: 0 }
    this.#counts.set(keyOf(labels), { ...labels, requests: requests + rejected })
  }

  /** Returns all counts. */
  list(): RejectionCount[] {
    return [...this.#counts.values()]
  }
}

function keyOf({ tenant, model, reason }: Omit<RejectionCount, 'requests'>): string {
  return JSON.stringify([tenant, model, reason])
}

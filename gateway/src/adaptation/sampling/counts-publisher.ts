import type { ReservoirCounts } from '../../contracts/reservoir-counts.ts'
import { spreadHash } from '../../runtime/spread-hash.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import type { ReservoirFacts } from './reservoir-facts.ts'

/** The delay from a change to the write of its counts. It depends on the domain, so that domains that fill together spread. */
const MIN_DELAY_MS = 30_000
const MAX_DELAY_MS = 60_000

/** The names of the facts: when the counts are to be written, and the domain, which an alarm may not know. */
const DUE = 'counts_due_ms'
const DOMAIN = 'domain'

/** How a {@link CountsPublisher} reads and writes. */
export interface PublisherOptions {
  /** The name of the object; undefined where the runtime does not tell it. */
  name: string | undefined
  nowMs: () => number
  /** Counts the reservoir. */
  count: () => ReservoirCounts
  /** Writes counts to D1. */
  write: (domain: string, counts: ReservoirCounts) => Promise<void>
}

/**
 * Writes the counts of a reservoir to D1 after they changed: at most one write in 30 seconds, however much changes, and at most
 * a minute after the first change. A deletion has them written at once. That a write is due is stored, so it outlives the
 * object, and one that fails is repeated.
 */
export class CountsPublisher {
  readonly #facts: ReservoirFacts
  readonly #options: PublisherOptions
  #changes = 0

  constructor(facts: ReservoirFacts, options: PublisherOptions) {
    this.#facts = facts
    this.#options = options
  }

  /** Has the counts written soon. */
  changed(): void {
    const { name, nowMs } = this.#options
    // Texts that fit into no domain are counted by their reservoir alone.
    if (name === UNASSIGNED) return
    this.#changes += 1
    if (name !== undefined) this.#facts.initialize(DOMAIN, name)
    if (this.dueMs() === undefined) this.#facts.set(DUE, nowMs() + this.#delayMs())
  }

  /** Returns when the counts are to be written, Unix milliseconds; undefined if they are. */
  dueMs(): number | undefined {
    return this.#facts.number(DUE)
  }

  /** Writes the counts if they are due, like {@link publish}. */
  async publishDue(): Promise<void> {
    if ((this.dueMs() ?? Infinity) <= this.#options.nowMs()) await this.publish()
  }

  /** Writes the counts now. An error is logged, and the write is repeated after the same delay. */
  async publish(): Promise<void> {
    const { nowMs, count, write } = this.#options
    const domain = this.#domain()
    if (domain === UNASSIGNED) return
    const changes = this.#changes
    let isWritten = true
    try {
      if (domain !== '') await write(domain, count())
    } catch (error) {
      isWritten = false
      console.error(
        `The counts of domain '${domain}' could not be written to D1 and are written later:`,
        error,
      )
    }
    if (isWritten && changes === this.#changes) this.#facts.delete(DUE)
    else this.#facts.set(DUE, nowMs() + this.#delayMs())
  }

  #domain(): string {
    return this.#options.name ?? this.#facts.text(DOMAIN)
  }

  #delayMs(): number {
    return MIN_DELAY_MS + (MAX_DELAY_MS - MIN_DELAY_MS) * (spreadHash(this.#domain()) / 2 ** 32)
  }
}

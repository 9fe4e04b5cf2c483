import type { Draw } from '../../contracts/reservoir-counts.ts'
import type { ReservoirFacts } from './reservoir-facts.ts'

/** The draw that was asked for last, of each model: what it would take is counted for D1. */
export class ReservoirDraws {
  readonly #facts: ReservoirFacts

  constructor(facts: ReservoirFacts) {
    this.#facts = facts
  }

  /** Remembers a draw. Returns false if it is the one before. */
  remember(model: string, { maxBytes, maxKeyShare, outlierDeviations }: Draw): boolean {
    const draws = { ...this.#stored(), [model]: { maxBytes, maxKeyShare, outlierDeviations } }
    const text = JSON.stringify(draws)
    if (text === this.#facts.text('draws')) return false
    this.#facts.set('draws', text)
    return true
  }

  /** Returns the draws by model. */
  list(): ReadonlyMap<string, Draw> {
    return new Map(Object.entries(this.#stored()))
  }

  #stored(): Record<string, Draw> {
    return JSON.parse(this.#facts.text('draws') || '{}') as Record<string, Draw>
  }
}

import { sideOfHash, type SamplePlacement } from './sample-placement.ts'
import type { Side } from '../../contracts/reservoir-object.ts'
import type { ReservoirFacts } from './reservoir-facts.ts'

const OTHER: Record<Side, Side> = { pool: 'holdout', holdout: 'pool' }

/**
 * Keeps the two sides of a domain disjoint: no text, and no first message of a text's conversation, is on both. Texts that
 * models have taken or that were held out are remembered by their hashes when they are gone.
 */
export class ReservoirSides {
  readonly #sql: SqlStorage
  readonly #facts: ReservoirFacts

  constructor(sql: SqlStorage, facts: ReservoirFacts) {
    this.#sql = sql
    this.#facts = facts
  }

  /** Returns whether a text may be stored on the side that it was placed on. */
  accepts({ hash, head, opening, side }: SamplePlacement): boolean {
    // Until the texts of an old frozen holdout are known, the rule of that time keeps them out of the pool.
    if (this.#facts.number('old_sides') !== undefined && sideOfHash(hash) !== side) return false
    const other = OTHER[side]
    // A plus sign keeps SQLite from reading all texts of a side by another index.
    const [conflict] = this.#sql.exec(
      `SELECT 1 FROM texts WHERE head IN (?1, ?2) AND +side = ?3
       UNION ALL
       SELECT 1 FROM texts WHERE hash IN (?1, ?2, ?4) AND +side = ?3
       UNION ALL
       SELECT 1 FROM sources JOIN texts USING (hash) WHERE sources.opening IN (?1, ?2) AND +texts.side = ?3
       UNION ALL
       SELECT 1 FROM sides WHERE hash IN (?1, ?2, ?4) AND side = ?3
       LIMIT 1`,
      head,
      opening,
      other,
      hash,
    )
    return conflict === undefined
  }

  /** Remembers the side of stored texts for good, by their hashes. */
  rememberStored(hashes: readonly string[]): void {
    this.#sql.exec(
      `INSERT OR IGNORE INTO sides
       SELECT head, side FROM texts WHERE hash IN (SELECT value FROM json_each(?1))
       UNION
       SELECT hash, side FROM texts WHERE hash IN (SELECT value FROM json_each(?1))
       UNION
       SELECT sources.opening, texts.side FROM sources JOIN texts USING (hash)
       WHERE hash IN (SELECT value FROM json_each(?1))`,
      JSON.stringify(hashes),
    )
  }

  /** Remembers the side of texts that need not be stored, for good. */
  remember(side: Side, hashes: readonly string[]): void {
    this.#sql.exec(
      'INSERT OR IGNORE INTO sides SELECT value, ?1 FROM json_each(?2)',
      side,
      JSON.stringify(hashes),
    )
  }
}

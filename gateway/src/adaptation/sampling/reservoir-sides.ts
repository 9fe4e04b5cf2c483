import { sideOfHash, type SamplePlacement } from './sample-placement.ts'
import type { Side } from '../../contracts/reservoir-object.ts'
import type { ReservoirFacts } from './reservoir-facts.ts'

const OTHER: Record<Side, Side> = { pool: 'holdout', holdout: 'pool' }
/** Sketches that are remembered of texts of the pool that are gone: 128 bytes each, and each new text is compared with all. */
const MAX_POOL_SKETCHES = 8_192

/**
 * Keeps the two sides of a domain disjoint: no text, and no first message of a text's conversation, is on both. Texts that
 * models have taken or that were held out are remembered by their hashes and sketches when they are gone.
 */
export class ReservoirSides {
  readonly #sql: SqlStorage
  readonly #facts: ReservoirFacts

  constructor(sql: SqlStorage, facts: ReservoirFacts) {
    this.#sql = sql
    this.#facts = facts
  }

  /**
   * Returns whether texts of a conversation may be stored on the side that they were placed on: neither its first message nor the
   * whole text is on the other side.
   *
   * @param known hashes of the whole text, and of the first message before the external recogniser read it
   */
  acceptsConversation({ opening, side }: SamplePlacement, known: readonly string[]): boolean {
    return !this.#conflicts([opening, ...known], side)
  }

  /** Returns whether a piece may be stored on the side that it was placed on. */
  accepts({ hash, head, side }: SamplePlacement): boolean {
    // Until the texts of an old frozen holdout are known, the rule of that time keeps them out of the pool.
    if (this.#facts.number('old_sides') !== undefined && sideOfHash(hash) !== side) return false
    return !this.#conflicts([head, hash], side)
  }

  /** Remembers the side of stored texts for good, by their hashes, and their sketches. */
  rememberStored(hashes: readonly string[]): void {
    this.#sql.exec(
      `INSERT OR IGNORE INTO sides (hash, side)
       SELECT head, side FROM texts WHERE hash IN (SELECT value FROM json_each(?1))
       UNION
       SELECT hash, side FROM texts WHERE hash IN (SELECT value FROM json_each(?1))
       UNION
       SELECT sources.opening, texts.side FROM sources JOIN texts USING (hash)
       WHERE hash IN (SELECT value FROM json_each(?1))`,
      JSON.stringify(hashes),
    )
    this.#sql.exec(
      `UPDATE sides SET sketch = (SELECT sketch FROM texts WHERE texts.hash = sides.hash)
       WHERE sketch IS NULL AND hash IN (SELECT value FROM json_each(?1))
         AND hash IN (SELECT hash FROM texts WHERE sketch IS NOT NULL)
         AND (side = 'holdout' OR (SELECT count(*) FROM sides WHERE sketch IS NOT NULL) < ?2)`,
      JSON.stringify(hashes),
      MAX_POOL_SKETCHES,
    )
  }

  /** Remembers the side of texts that need not be stored, for good. */
  remember(side: Side, hashes: readonly string[]): void {
    this.#sql.exec(
      'INSERT OR IGNORE INTO sides (hash, side) SELECT value, ?1 FROM json_each(?2)',
      side,
      JSON.stringify(hashes),
    )
  }

  /** Returns whether the other side has, or had, one of some texts, heads or first messages, by their hashes. */
  #conflicts(hashes: readonly string[], side: Side): boolean {
    // A plus sign keeps SQLite from reading all texts of a side by another index.
    const [conflict] = this.#sql.exec(
      `SELECT 1 FROM texts WHERE head IN (SELECT value FROM json_each(?1)) AND +side = ?2
       UNION ALL
       SELECT 1 FROM texts WHERE hash IN (SELECT value FROM json_each(?1)) AND +side = ?2
       UNION ALL
       SELECT 1 FROM sources JOIN texts USING (hash)
       WHERE sources.opening IN (SELECT value FROM json_each(?1)) AND +texts.side = ?2
       UNION ALL
       SELECT 1 FROM sides WHERE hash IN (SELECT value FROM json_each(?1)) AND side = ?2
       LIMIT 1`,
      JSON.stringify(hashes),
      OTHER[side],
    )
    return conflict !== undefined
  }
}

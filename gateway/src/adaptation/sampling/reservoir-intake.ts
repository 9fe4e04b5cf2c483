import type { OfferedSample, Side } from '../../contracts/reservoir-object.ts'
import { sketchOf } from './near-duplicate.ts'
import { blob } from './reservoir-migration.ts'
import type { ReservoirNearDuplicates } from './reservoir-near-duplicates.ts'
import type { ReservoirSides } from './reservoir-sides.ts'
import type { ReservoirTally, TextOwner } from './reservoir-tally.ts'
import type { SideBounds } from './reservoir-texts.ts'
import type { PlacedPiece, PlacedSample, SamplePlacement } from './sample-placement.ts'

/** The bounds of what is stored. */
export interface IntakeBounds {
  pool: SideBounds
  holdout: SideBounds
  /** Maximum number of sources of a text, so that a call can return all texts with theirs. A text goes with the stored ones. */
  sourcesPerText: number
  timeToLiveMs: number
}

/** The sizes of both sides. */
export type Tallies = Readonly<Record<Side, ReservoirTally>>

type StoredRow = { [Name in keyof TextOwner]: TextOwner[Name] } & {
  hash: string
  priority: number
  characters: number
  taken: number
}

/** Stores the pieces of offered texts that belong into the sample. */
export class ReservoirIntake {
  readonly #sql: SqlStorage
  readonly #bounds: IntakeBounds
  readonly #sides: ReservoirSides
  readonly #nearDuplicates: ReservoirNearDuplicates

  constructor(
    sql: SqlStorage,
    bounds: IntakeBounds,
    parts: { sides: ReservoirSides; nearDuplicates: ReservoirNearDuplicates },
  ) {
    this.#sql = sql
    this.#bounds = bounds
    this.#sides = parts.sides
    this.#nearDuplicates = parts.nearDuplicates
  }

  /**
   * Stores the pieces of a text, unless it was offered before in its conversation, or its first message is on the other side. Pieces
   * that are on the other side are left out, such as instructions with which many texts begin.
   *
   * @returns whether it was not offered before
   */
  store({ offer, hash, pieces }: PlacedSample, tallies: Tallies, nowMs: number): boolean {
    const fresh = pieces.filter(({ placement }) => this.#isNew(offer, placement.hash, nowMs))
    if (fresh.length === 0) return false
    const atMs = Math.min(offer.atMs, nowMs)
    const [first] = pieces
    const isExpired = atMs <= nowMs - this.#bounds.timeToLiveMs
    const known = [hash, ...(offer.earlierOpening === undefined ? [] : [offer.earlierOpening])]
    if (isExpired || !first || !this.#sides.acceptsConversation(first.placement, known)) return true
    if (pieces.length > 1) this.#markPieces(hash, pieces)
    for (const piece of fresh) {
      if (this.#sides.accepts(piece.placement)) this.#insert(offer, piece, tallies, atMs)
    }
    return true
  }

  /** Returns whether a piece was not offered before in its conversation, and remembers that it was. */
  #isNew(offer: OfferedSample, hash: string, nowMs: number): boolean {
    // Requests that were queued before samples named their conversation.
    const conversation = offer.conversation || offer.requestId
    const { rowsWritten } = this.#sql.exec(
      'INSERT OR IGNORE INTO offered VALUES (?, ?)',
      `${hash} ${conversation}`,
      nowMs,
    )
    if (rowsWritten === 0) return false
    const [stored] = this.#sql.exec(
      'SELECT 1 FROM sources WHERE hash = ? AND key_id = ? AND conversation = ?',
      hash,
      offer.keyId,
      conversation,
    )
    return stored === undefined
  }

  /** Marks the pieces of a text as taken by the models that took the whole text, before texts were stored in pieces. */
  #markPieces(hash: string, pieces: readonly PlacedPiece[]): void {
    if (this.#sql.exec('SELECT 1 FROM taken WHERE hash = ? LIMIT 1', hash).toArray().length === 0) return
    for (const { placement } of pieces) {
      this.#sql.exec(
        'INSERT OR IGNORE INTO taken SELECT model, ?, update_id FROM taken WHERE hash = ?',
        placement.hash,
        hash,
      )
    }
  }

  #insert(offer: OfferedSample, { text, placement }: PlacedPiece, tallies: Tallies, atMs: number): void {
    const { hash, head, side, priority } = placement
    const tally = tallies[side]
    const [stored] = this.#sql.exec<StoredRow>(
      'SELECT hash, priority, characters, taken, tenant, key_id AS keyId FROM texts WHERE hash = ?',
      hash,
    )
    if (stored) {
      if (this.#insertSource(offer, placement, atMs)) this.#share(stored, offer, tally)
      return
    }
    if (priority >= tally.threshold(offer)) return
    const sketch = sketchOf(text)
    if (sketch && this.#nearDuplicates.has({ text, side, sketch })) return
    this.#sql.exec(
      `INSERT INTO texts (hash, head, side, priority, text, characters, taken, tenant, key_id, offered_nll, sketch)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, EXISTS (SELECT 1 FROM taken WHERE hash = ?1), ?7, ?8, ?9, ?10)`,
      hash,
      head,
      side,
      priority,
      text,
      text.length,
      offer.tenant,
      offer.keyId,
      offer.nllMean ?? null,
      blob(sketch),
    )
    this.#insertSource(offer, placement, atMs)
    if (sketch) this.#nearDuplicates.add(hash, { text, side, sketch })
    tally.add(offer, text.length)
    this.#evict(side, tally)
  }

  /** @returns whether there was room for one more source */
  #insertSource(offer: OfferedSample, { hash, opening }: SamplePlacement, atMs: number): boolean {
    const { requestId, keyId, tenant, conversation, consentVersion } = offer
    const { rowsWritten } = this.#sql.exec(
      `INSERT OR IGNORE INTO sources SELECT ?, ?, ?, ?, ?, ?, ?, ?
       WHERE (SELECT count(*) FROM sources WHERE hash = ?) < ?`,
      hash,
      keyId,
      conversation || requestId,
      requestId,
      tenant,
      consentVersion,
      opening,
      atMs,
      hash,
      this.#bounds.sourcesPerText,
    )
    return rowsWritten > 0
  }

  /** Lets a text that several keys sent count for the one with less text. */
  #share({ hash, characters, tenant, keyId }: StoredRow, offer: OfferedSample, tally: ReservoirTally): void {
    const owner = { tenant, keyId }
    if (tally.charactersOf(offer) + characters >= tally.charactersOf(owner)) return
    this.#sql.exec('UPDATE texts SET tenant = ?, key_id = ? WHERE hash = ?', offer.tenant, offer.keyId, hash)
    tally.remove(owner, characters)
    tally.add(offer, characters)
  }

  /** Makes room: taken texts go first, then those of the tenant and the key that have most. */
  #evict(side: Side, tally: ReservoirTally): void {
    const bounds = this.#bounds[side]
    while (tally.size.texts > bounds.texts || tally.size.characters > bounds.characters) {
      const measure = tally.size.texts > bounds.texts ? 'texts' : 'characters'
      const last = this.#lastTaken(side) ?? this.#lastOf(side, tally.heaviestKeys(measure, bounds))
      if (!last) return
      this.#sql.exec('DELETE FROM texts WHERE hash = ?', last.hash)
      this.#sql.exec('DELETE FROM sources WHERE hash = ?', last.hash)
      this.#nearDuplicates.remove(last.hash)
      tally.remove(last, last.characters)
      if (last.taken === 0) tally.lowerThreshold(last, last.priority)
    }
  }

  #lastTaken(side: Side): StoredRow | undefined {
    const [last] = this.#sql.exec<StoredRow>(
      `SELECT hash, priority, characters, taken, tenant, key_id AS keyId FROM texts
       WHERE side = ? AND taken = 1 ORDER BY priority DESC LIMIT 1`,
      side,
    )
    return last
  }

  /** Returns the text with the highest priority of some keys. */
  #lastOf(side: Side, keys: readonly TextOwner[]): StoredRow | undefined {
    let last: StoredRow | undefined
    for (const { tenant, keyId } of keys) {
      const [row] = this.#sql.exec<StoredRow>(
        `SELECT hash, priority, characters, taken, tenant, key_id AS keyId FROM texts
         WHERE side = ? AND tenant = ? AND key_id = ? ORDER BY priority DESC LIMIT 1`,
        side,
        tenant,
        keyId,
      )
      if (row && (!last || row.priority > last.priority)) last = row
    }
    return last
  }
}

import type { DrawableText } from './fair-draw.ts'
import { ReservoirDeletions } from './reservoir-deletions.ts'
import { ReservoirDrawing } from './reservoir-drawing.ts'
import { ReservoirDraws } from './reservoir-draws.ts'
import { ReservoirFacts } from './reservoir-facts.ts'
import { ReservoirIntake, type IntakeBounds, type Tallies } from './reservoir-intake.ts'
import { ReservoirMarks } from './reservoir-marks.ts'
import { migrateReservoir } from './reservoir-migration.ts'
import { ReservoirNearDuplicates } from './reservoir-near-duplicates.ts'
import { NOT_SET_ASIDE, ReservoirReview } from './reservoir-review.ts'
import { createTables } from './reservoir-schema.ts'
import { ReservoirSides } from './reservoir-sides.ts'
import { ReservoirTally } from './reservoir-tally.ts'
import { ReservoirTexts, type SideBounds } from './reservoir-texts.ts'
import { placePieces } from './sample-placement.ts'
import type { ReservoirCounts, ReservoirStats } from '../../contracts/reservoir-counts.ts'
import type {
  KeptText,
  LossRequest,
  OfferedSample,
  ReviewText,
  Side,
  SourceFilter,
  StoredText,
  TakeRequest,
} from '../../contracts/reservoir-object.ts'

/** Options of a {@link ReservoirStore}. */
export interface ReservoirOptions extends IntakeBounds {
  /** How long offers are remembered, to ignore texts that are sent again and messages that are delivered twice. */
  rememberOffersMs: number
  /** Determines which texts are kept; ignored if the domain has a seed already. */
  seed: string
  nowMs(): number
}

const SIDES = ['pool', 'holdout'] as const

/**
 * A bounded sample of a domain's texts (the pool), with a disjoint holdout, in which no tenant and no key takes more room than
 * its share while others need it. Within a key it is uniform.
 *
 * The hash of a text, or of a piece of a long one, determines its priority ({@link placePieces}). When a side is full, the key
 * that has most of it loses its text with the highest priority, and from then on stores only texts of lower priorities. This
 * is reservoir sampling (Vitter's algorithm R in distribution) of each key that stays uniform under a bound on characters,
 * ignores duplicates and gives the same result when messages are delivered twice. When texts expire, are deleted or are taken
 * by a model, the thresholds are raised by the freed proportion, so that newer texts fill the space. Taken texts make room
 * before others do. Of texts that are almost the same, the first is stored.
 */
export class ReservoirStore {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage
  readonly #options: ReservoirOptions
  readonly #facts: ReservoirFacts
  readonly #draws: ReservoirDraws
  readonly #drawing: ReservoirDrawing
  readonly #sides: ReservoirSides
  readonly #texts: ReservoirTexts
  readonly #marks: ReservoirMarks
  readonly #review: ReservoirReview
  readonly #deletions: ReservoirDeletions
  readonly #nearDuplicates: ReservoirNearDuplicates
  readonly #intake: ReservoirIntake
  /** Counted once, so that each of thousands of texts costs only its own rows; undefined after a change by anything else. */
  #tallies: Tallies | undefined

  /** Call {@link migrate} before anything else. */
  constructor(storage: DurableObjectStorage, options: ReservoirOptions) {
    this.#storage = storage
    this.#sql = storage.sql
    this.#options = options
    createTables(this.#sql)
    this.#facts = new ReservoirFacts(this.#sql)
    this.#draws = new ReservoirDraws(this.#facts)
    this.#sides = new ReservoirSides(this.#sql, this.#facts)
    this.#texts = new ReservoirTexts(this.#sql)
    this.#marks = new ReservoirMarks(this.#sql)
    this.#review = new ReservoirReview(this.#sql)
    this.#drawing = new ReservoirDrawing({ facts: this.#facts, texts: this.#texts, review: this.#review })
    this.#deletions = new ReservoirDeletions(this.#sql)
    this.#nearDuplicates = new ReservoirNearDuplicates(this.#sql)
    const parts = { sides: this.#sides, nearDuplicates: this.#nearDuplicates }
    this.#intake = new ReservoirIntake(this.#sql, options, parts)
    this.#facts.initialize('seed', options.seed)
  }

  /** Moves what an earlier version stored into the tables of this version. */
  migrate(): Promise<void> {
    return migrateReservoir(this.#storage)
  }

  /** Offers texts, and keeps those that belong into the sample. */
  async offer(offers: readonly OfferedSample[]): Promise<void> {
    const seed = this.#facts.text('seed')
    const placed = await Promise.all(offers.map((offer) => placePieces(seed, offer)))
    const { rememberOffersMs, timeToLiveMs } = this.#options
    const nowMs = this.#options.nowMs()
    try {
      this.#storage.transactionSync(() => {
        this.#sql.exec('DELETE FROM offered WHERE at_ms < ?', nowMs - rememberOffersMs)
        this.#deletions.forget(nowMs - timeToLiveMs)
        const isDeleted = this.#deletions.matcher(offers)
        const tallies = this.#openTallies()
        let seen = this.#facts.number('seen') ?? 0
        let lastAtMs = this.#facts.number('last_at_ms') ?? 0
        for (const sample of placed) {
          if (isDeleted(sample.offer) || !this.#intake.store(sample, tallies, nowMs)) continue
          seen += 1
          lastAtMs = Math.max(lastAtMs, Math.min(sample.offer.atMs, nowMs))
        }
        if (seen > 0) {
          this.#facts.set('seen', seen)
          this.#facts.set('last_at_ms', lastAtMs)
        }
        for (const side of SIDES) tallies[side].save()
      })
    } catch (error) {
      this.#forgetCounts()
      throw error
    }
  }

  /** Takes texts of the pool for an update, fairly by tenant and key, until they have `maxBytes`. */
  take(request: TakeRequest): StoredText[] {
    const { model, updateId } = request
    return this.#storage.transactionSync(() => {
      if (!this.#marks.isAny(model, updateId)) {
        const drawn = this.#drawing.draw(request)
        this.#marks.add(model, updateId, drawn)
        this.#sides.rememberStored(drawn.map(({ hash }) => hash))
        this.#raiseThresholds('pool')
      }
      return this.#texts.list(
        'hash IN (SELECT hash FROM taken WHERE model = ? AND update_id = ?)',
        [model, updateId],
        this.#marks.partsOf(model, updateId),
      )
    })
  }

  /** Returns the bytes that {@link take} would take. */
  available(request: Omit<TakeRequest, 'updateId'>): number {
    return bytesOf(this.#drawing.draw(request))
  }

  /** Has {@link counts} count what a draw would take. Returns false if it does already. */
  rememberDraw({ model, ...draw }: Omit<TakeRequest, 'updateId'>): boolean {
    return this.#draws.remember(model, draw)
  }

  /** Returns what {@link take} would take and {@link holdout} hold out; nothing once the update has taken texts. */
  drawable({ updateId, ...request }: Omit<LossRequest, 'baseSha256' | 'limit'>): DrawableText[] {
    if (updateId !== undefined && this.#marks.isAny(request.model, updateId)) return []
    return [...this.#drawing.draw(request), ...this.#drawing.drawHoldout(this.#options.holdout.characters)]
  }

  /** Lets the texts of updates be taken again. */
  release(model: string, updateIds: readonly string[]): void {
    this.#storage.transactionSync(() => this.#marks.remove(model, updateIds))
  }

  /** Marks texts as taken by an update, by their hashes. */
  markTaken({
    model,
    updateId,
    hashes,
  }: {
    model: string
    updateId: string
    hashes: readonly string[]
  }): void {
    this.#storage.transactionSync(() => {
      this.#marks.add(
        model,
        updateId,
        hashes.map((hash) => ({ hash })),
      )
      this.#sides.remember('pool', hashes)
      this.#texts.delete('holdout', hashes)
      this.#raiseThresholds('pool')
    })
  }

  /** Returns held-out texts, fairly by tenant and key, until they have `maxBytes`, and remembers their side. */
  holdout(maxBytes: number): StoredText[] {
    const drawn = new Map(
      this.#drawing.drawHoldout(maxBytes).map(({ hash, characters }) => [hash, characters]),
    )
    const hashes = [...drawn.keys()]
    this.#sides.rememberStored(hashes)
    return this.#texts.list('hash IN (SELECT value FROM json_each(?))', [JSON.stringify(hashes)], drawn)
  }

  /** Keeps the texts of an old holdout out of the pool, by their hashes. */
  markHeldOut(hashes: readonly string[]): void {
    this.#storage.transactionSync(() => {
      this.#sides.remember('holdout', hashes)
      this.#texts.delete('pool', hashes)
      this.#facts.delete('old_sides')
      this.#forgetCounts()
    })
  }

  /** Returns the sizes and counts of the reservoir, with those of texts that a model has not taken. */
  stats(model?: string): ReservoirStats {
    this.#drawing.setAside()
    const inPool = `side = 'pool' AND ${NOT_SET_ASIDE}`
    const pool = this.#texts.sizeWhere(inPool)
    const fresh =
      model === undefined
        ? pool
        : this.#texts.sizeWhere(`${inPool} AND hash NOT IN (SELECT hash FROM taken WHERE model = ?)`, model)
    const holdout = this.#drawing.drawHoldout(this.#options.holdout.characters)
    return {
      samples: pool.texts,
      characters: pool.characters,
      newSamples: fresh.texts,
      newCharacters: fresh.characters,
      seen: this.#facts.number('seen') ?? 0,
      holdoutSamples: holdout.length,
      holdoutCharacters: holdout.reduce((sum, { characters }) => sum + characters, 0),
      lastSampleAtMs: this.#facts.number('last_at_ms') ?? null,
      reviewSamples: this.#review.count(),
    }
  }

  /** Returns the counts that D1 keeps, apart from those of descriptions. */
  counts(): Omit<ReservoirCounts, 'examples'> {
    const { newSamples: _samples, newCharacters: _characters, ...stats } = this.stats()
    const taken = this.#marks.sizesWhere(`side = 'pool' AND ${NOT_SET_ASIDE}`)
    const draws = this.#draws.list()
    const models = [...new Set([...taken.keys(), ...draws.keys()])].map((model) => {
      const { texts: takenSamples, characters: takenCharacters } = taken.get(model) ?? {
        texts: 0,
        characters: 0,
      }
      const draw = draws.get(model)
      const drawn = draw ? { draw: { ...draw, bytes: bytesOf(this.#drawing.drawPool(model, draw)) } } : {}
      return [model, { takenSamples, takenCharacters, ...drawn }] as const
    })
    return { ...stats, countedAtMs: this.#options.nowMs(), models: Object.fromEntries(models) }
  }

  /** Returns the texts that requests brought last, newest first. */
  newest(maxTexts: number, previewCharacters: number): KeptText[] {
    this.#drawing.setAside()
    return this.#texts.newest(maxTexts, previewCharacters)
  }

  /** Returns texts that are set aside for review. */
  review(maxTexts: number): ReviewText[] {
    this.#drawing.setAside()
    return this.#review.list(maxTexts)
  }

  /** Puts a text that is set aside back for good, or deletes it. Returns false if it is not set aside. */
  resolveReview(id: string, decision: 'keep' | 'drop'): boolean {
    return this.#storage.transactionSync(() => {
      const isResolved = decision === 'keep' ? this.#review.keep(id) : this.#review.drop(id)
      this.#forgetCounts()
      return isResolved
    })
  }

  /**
   * Deletes the matching sources, and the texts that have none left. Ignores offers of matching texts that are older.
   *
   * @returns the number of texts that lost a source
   */
  delete(filter: SourceFilter = {}): number {
    return this.#storage.transactionSync(() => {
      this.#deletions.remember(filter, this.#options.nowMs())
      return this.#afterDeletion(this.#deletions.delete(filter))
    })
  }

  /** Deletes everything but the seed: texts, marks and counts. */
  clear(): void {
    this.#storage.transactionSync(() => {
      for (const table of [
        'texts',
        'sources',
        'taken',
        'parts',
        'sides',
        'offered',
        'deletions',
        'thresholds',
      ])
        this.#sql.exec(`DELETE FROM ${table}`)
      this.#facts.deleteAllBut('seed')
      this.#deletions.remember({}, this.#options.nowMs())
      this.#forgetCounts()
    })
  }

  /** Deletes texts by their hashes. */
  deleteByHash(hashes: readonly string[]): void {
    const list = JSON.stringify(hashes)
    this.#storage.transactionSync(
      () =>
        void this.#afterDeletion(
          this.#deletions.deleteSources('hash IN (SELECT value FROM json_each(?))', list),
        ),
    )
  }

  /** Deletes the expired sources, and the texts that have none left. */
  expire(): void {
    const untilMs = this.#options.nowMs() - this.#options.timeToLiveMs
    this.#storage.transactionSync(() => {
      this.#afterDeletion(this.#deletions.deleteSources('at_ms <= ?', untilMs))
      // Keys that have no text any more begin anew, or else each key that ever sent one would leave a row.
      this.#sql.exec(
        `DELETE FROM thresholds WHERE NOT EXISTS (
           SELECT 1 FROM texts WHERE texts.side = thresholds.side AND texts.tenant = thresholds.tenant
             AND texts.key_id = thresholds.key_id)`,
      )
    })
  }

  /** Returns when the next source expires, Unix milliseconds. */
  nextExpiryMs(): number | undefined {
    const { at } = this.#sql.exec<{ at: number | null }>('SELECT min(at_ms) AS at FROM sources').one()
    return at === null ? undefined : at + this.#options.timeToLiveMs
  }

  #openTallies(): Tallies {
    this.#tallies ??= {
      pool: new ReservoirTally(this.#sql, 'pool'),
      holdout: new ReservoirTally(this.#sql, 'holdout'),
    }
    return this.#tallies
  }

  /** Forgets what is counted in memory, because texts have changed by something else than an offer. */
  #forgetCounts(): void {
    this.#tallies = undefined
    this.#nearDuplicates.clear()
  }

  #afterDeletion(lost: number): number {
    this.#forgetCounts()
    if (lost > 0) for (const side of SIDES) this.#raiseThresholds(side)
    return lost
  }

  /** Raises the thresholds of a side by the proportion to which texts that no model has taken can grow. */
  #raiseThresholds(side: Side): void {
    this.#forgetCounts()
    const left = this.#texts.sizeWhere('side = ? AND taken = 0', side)
    const factor = growthFactor(this.#options[side], left)
    this.#sql.exec(
      'UPDATE thresholds SET threshold = threshold * ? WHERE side = ?',
      Math.min(factor, 1e9),
      side,
    )
    this.#sql.exec('DELETE FROM thresholds WHERE side = ? AND threshold >= 1', side)
  }
}

function bytesOf(texts: readonly DrawableText[]): number {
  return texts.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** Returns the factor by which a side can grow within its bounds; at least 1, and infinite for an empty side. */
function growthFactor(bounds: SideBounds, size: SideBounds): number {
  return Math.max(1, Math.min(bounds.texts / size.texts, bounds.characters / size.characters))
}

import { placeSample, type SamplePlacement } from './sample-placement.ts'
import { ReservoirFacts } from './reservoir-facts.ts'
import { ReservoirMarks } from './reservoir-marks.ts'
import { createTables, migrateOldSamples } from './reservoir-schema.ts'
import { ReservoirSides } from './reservoir-sides.ts'
import { ReservoirTexts, type SideBounds } from './reservoir-texts.ts'
import { matchesFilter, sourceCondition } from './source-filter.ts'
import { headOf } from './text-hash.ts'
import type {
  OfferedSample,
  ReservoirStats,
  Side,
  SourceFilter,
  StoredText,
  TakeRequest,
} from '../../contracts/reservoir-object.ts'

/** Options of a {@link ReservoirStore}. */
export interface ReservoirOptions {
  pool: SideBounds
  holdout: SideBounds
  /** Maximum number of sources of a text, so that a call can return all texts with theirs. A text goes with the stored ones. */
  sourcesPerText: number
  timeToLiveMs: number
  /** How long offers are remembered, to ignore texts that are sent again and messages that are delivered twice. */
  rememberOffersMs: number
  /** Determines which texts are kept; ignored if the domain has a seed already. */
  seed: string
  nowMs(): number
}

/** The size of a side, and the priority from which on it accepts no texts. */
type SideTally = SideBounds & { threshold: number }

/** The facts that offers change, besides the texts. */
interface Tally {
  seen: number
  lastAtMs: number
  sides: Record<Side, SideTally>
}

interface PlacedSample {
  offer: OfferedSample
  placement: SamplePlacement
}

const SIDES = ['pool', 'holdout'] as const

/**
 * A bounded uniform sample of a domain's texts (the pool), with a disjoint holdout.
 *
 * The hash of a text determines its priority ({@link placeSample}). A side keeps the texts with the lowest priorities
 * until it is full, and from then on accepts only texts below the lowest priority that it ever rejected. This is
 * reservoir sampling (Vitter's algorithm R in distribution) that stays uniform under a bound on characters, ignores
 * duplicates and gives the same result when messages are delivered twice. When texts expire, are deleted or are taken by
 * a model, the threshold is raised by the freed proportion, so that newer texts fill the space. Taken texts make room
 * before others do.
 */
export class ReservoirStore {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage
  readonly #options: ReservoirOptions
  readonly #facts: ReservoirFacts
  readonly #sides: ReservoirSides
  readonly #texts: ReservoirTexts
  readonly #marks: ReservoirMarks

  /** Call {@link migrate} before anything else. */
  constructor(storage: DurableObjectStorage, options: ReservoirOptions) {
    this.#storage = storage
    this.#sql = storage.sql
    this.#options = options
    createTables(this.#sql)
    this.#facts = new ReservoirFacts(this.#sql)
    this.#sides = new ReservoirSides(this.#sql, this.#facts)
    this.#texts = new ReservoirTexts(this.#sql)
    this.#marks = new ReservoirMarks(this.#sql)
    this.#facts.initialize('seed', options.seed)
  }

  /** Moves what an earlier version stored into the tables of this version. */
  migrate(): Promise<void> {
    return migrateOldSamples(this.#storage)
  }

  /** Offers texts, and keeps those that belong into the sample. */
  async offer(offers: readonly OfferedSample[]): Promise<void> {
    const seed = this.#facts.text('seed')
    const placed = await Promise.all(
      offers.map(async (offer) => ({ offer, placement: await placeSample(seed, offer) })),
    )
    const nowMs = this.#options.nowMs()
    this.#storage.transactionSync(() => {
      this.#sql.exec('DELETE FROM offered WHERE at_ms < ?', nowMs - this.#options.rememberOffersMs)
      this.#sql.exec('DELETE FROM deletions WHERE at_ms < ?', nowMs - this.#options.timeToLiveMs)
      const deletions = this.#deletions()
      const tally = this.#openTally()
      for (const sample of placed) {
        const { offer } = sample
        if (deletions.some(({ atMs, filter }) => offer.atMs < atMs && matchesFilter(offer, filter))) continue
        if (this.#isNew(sample, nowMs)) this.#insert(sample, tally, nowMs)
      }
      this.#saveTally(tally)
    })
  }

  /** Takes texts of the pool for an update, in the order of priority, until they have `maxCharacters`. */
  take({ model, updateId, maxCharacters }: TakeRequest): StoredText[] {
    return this.#storage.transactionSync(() => {
      if (!this.#marks.isAny(model, updateId)) {
        const hashes = this.#marks.addNew({ model, updateId, maxCharacters })
        this.#sides.rememberStored(hashes)
        this.#raiseThreshold('pool')
      }
      return this.#texts.list(
        'hash IN (SELECT hash FROM taken WHERE model = ? AND update_id = ?)',
        [model, updateId],
        Infinity,
      ).texts
    })
  }

  /** Lets the texts of an update be taken again. */
  release({ model, updateId }: Pick<TakeRequest, 'model' | 'updateId'>): void {
    this.#storage.transactionSync(() => this.#marks.remove(model, updateId))
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
      this.#marks.add(model, updateId, hashes)
      this.#sides.remember('pool', hashes)
      this.#texts.delete('holdout', hashes)
      this.#raiseThreshold('pool')
    })
  }

  /** Returns the held-out texts in the order of priority, until they have `maxCharacters`, and remembers their side. */
  holdout(maxCharacters: number): StoredText[] {
    const { texts, hashes } = this.#texts.list(`side = 'holdout'`, [], maxCharacters)
    this.#sides.rememberStored(hashes)
    return texts
  }

  /** Keeps the texts of an old holdout out of the pool, by their hashes. */
  markHeldOut(hashes: readonly string[]): void {
    this.#storage.transactionSync(() => {
      this.#sides.remember('holdout', hashes)
      this.#texts.delete('pool', hashes)
      this.#facts.delete('old_sides')
    })
  }

  /** Returns the sizes and counts of the reservoir, with those of texts that a model has not taken. */
  stats(model?: string): ReservoirStats {
    const pool = this.#texts.size('pool')
    const fresh =
      model === undefined
        ? pool
        : this.#texts.sizeWhere(
            `side = 'pool' AND hash NOT IN (SELECT hash FROM taken WHERE model = ?)`,
            model,
          )
    const holdout = this.#texts.size('holdout')
    return {
      samples: pool.texts,
      characters: pool.characters,
      newSamples: fresh.texts,
      newCharacters: fresh.characters,
      seen: this.#facts.number('seen') ?? 0,
      holdoutSamples: holdout.texts,
      holdoutCharacters: holdout.characters,
      lastSampleAtMs: this.#facts.number('last_at_ms') ?? null,
    }
  }

  /**
   * Deletes the matching sources, and the texts that have none left. Ignores offers of matching texts that are older.
   *
   * @returns the number of texts that lost a source
   */
  delete(filter: SourceFilter = {}): number {
    return this.#storage.transactionSync(() => {
      this.#rememberDeletion(filter)
      const { condition, values } = sourceCondition(filter)
      return this.#deleteSources(condition, ...values)
    })
  }

  /** Deletes everything but the seed: texts, marks and counts. */
  clear(): void {
    this.#storage.transactionSync(() => {
      for (const table of ['texts', 'sources', 'taken', 'sides', 'offered', 'deletions'])
        this.#sql.exec(`DELETE FROM ${table}`)
      this.#facts.deleteAllBut('seed')
      this.#rememberDeletion({})
    })
  }

  /** Deletes texts by their hashes. */
  deleteByHash(hashes: readonly string[]): void {
    this.#storage.transactionSync(
      () => void this.#deleteSources('hash IN (SELECT value FROM json_each(?))', JSON.stringify(hashes)),
    )
  }

  /** Deletes the expired sources, and the texts that have none left. */
  expire(): void {
    const untilMs = this.#options.nowMs() - this.#options.timeToLiveMs
    this.#storage.transactionSync(() => this.#deleteSources('at_ms <= ?', untilMs))
  }

  /** Returns when the next source expires, Unix milliseconds. */
  nextExpiryMs(): number | undefined {
    const { at } = this.#sql.exec<{ at: number | null }>('SELECT min(at_ms) AS at FROM sources').one()
    return at === null ? undefined : at + this.#options.timeToLiveMs
  }

  /** Returns whether the text was not offered before in its conversation, and remembers that it was. */
  #isNew({ offer, placement }: PlacedSample, nowMs: number): boolean {
    const { hash } = placement
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

  #insert({ offer, placement }: PlacedSample, tally: Tally, nowMs: number): void {
    const { hash, head, side, priority } = placement
    const size = tally.sides[side]
    const atMs = Math.min(offer.atMs, nowMs)
    tally.seen += 1
    tally.lastAtMs = Math.max(atMs, tally.lastAtMs)
    if (atMs <= nowMs - this.#options.timeToLiveMs || !this.#sides.accepts(placement)) return
    const [stored] = this.#sql.exec('SELECT 1 FROM texts WHERE hash = ?', hash)
    if (stored) {
      this.#insertSource(offer, placement, atMs)
      return
    }
    if (priority >= size.threshold) return
    // A few long texts must not fill the holdout.
    const text = side === 'holdout' ? headOf(offer.text) : offer.text
    this.#sql.exec(
      `INSERT INTO texts VALUES (?1, ?2, ?3, ?4, ?5, ?6, EXISTS (SELECT 1 FROM taken WHERE hash = ?1))`,
      hash,
      head,
      side,
      priority,
      text,
      text.length,
    )
    this.#insertSource(offer, placement, atMs)
    size.texts += 1
    size.characters += text.length
    this.#evict(side, size)
  }

  #insertSource(offer: OfferedSample, { hash, opening }: SamplePlacement, atMs: number): void {
    const { requestId, keyId, tenant, conversation, consentVersion } = offer
    this.#sql.exec(
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
      this.#options.sourcesPerText,
    )
  }

  #evict(side: Side, size: SideTally): void {
    const bounds = this.#options[side]
    while (size.texts > bounds.texts || size.characters > bounds.characters) {
      const [last] = this.#sql.exec<{ hash: string; priority: number; characters: number; taken: number }>(
        `SELECT hash, priority, characters, taken FROM texts WHERE side = ? ORDER BY taken DESC, priority DESC LIMIT 1`,
        side,
      )
      if (!last) return
      this.#sql.exec('DELETE FROM texts WHERE hash = ?', last.hash)
      this.#sql.exec('DELETE FROM sources WHERE hash = ?', last.hash)
      size.texts -= 1
      size.characters -= last.characters
      if (last.taken === 0) size.threshold = last.priority
    }
  }

  /** Reads the tally once for a transaction, so that each of thousands of texts costs only its own rows. */
  #openTally(): Tally {
    const side = (name: Side) => ({ ...this.#texts.size(name), threshold: this.#threshold(name) })
    return {
      seen: this.#facts.number('seen') ?? 0,
      lastAtMs: this.#facts.number('last_at_ms') ?? 0,
      sides: { pool: side('pool'), holdout: side('holdout') },
    }
  }

  #saveTally({ seen, lastAtMs, sides }: Tally): void {
    if (seen === 0) return
    this.#facts.set('seen', seen)
    this.#facts.set('last_at_ms', lastAtMs)
    for (const side of SIDES) {
      const { threshold } = sides[side]
      if (threshold < this.#threshold(side)) this.#facts.set(`${side}_threshold`, threshold)
    }
  }

  #rememberDeletion(filter: SourceFilter): void {
    this.#sql.exec('INSERT INTO deletions VALUES (?, ?)', JSON.stringify(filter), this.#options.nowMs())
  }

  #deletions(): { atMs: number; filter: SourceFilter }[] {
    return this.#sql
      .exec<{ filter: string; atMs: number }>('SELECT filter, at_ms AS atMs FROM deletions')
      .toArray()
      .map(({ filter, atMs }) => ({ atMs, filter: JSON.parse(filter) as SourceFilter }))
  }

  /** Deletes sources, and the texts that have none left. Returns the number of texts that lost a source. */
  #deleteSources(condition: string, ...values: (string | number)[]): number {
    const { lost } = this.#sql
      .exec<{ lost: number }>(
        `SELECT count(DISTINCT hash) AS lost FROM sources WHERE ${condition}`,
        ...values,
      )
      .one()
    if (lost === 0) return 0
    this.#sql.exec(
      `DELETE FROM offered WHERE id IN (SELECT hash || ' ' || conversation FROM sources WHERE ${condition})`,
      ...values,
    )
    this.#sql.exec(`DELETE FROM sources WHERE ${condition}`, ...values)
    for (const side of SIDES) {
      const { rowsWritten } = this.#sql.exec(
        'DELETE FROM texts WHERE side = ? AND hash NOT IN (SELECT hash FROM sources)',
        side,
      )
      if (rowsWritten > 0) this.#raiseThreshold(side)
    }
    return lost
  }

  /** Raises the threshold of a side by the proportion to which texts that no model has taken can grow. */
  #raiseThreshold(side: Side): void {
    const left = this.#texts.sizeWhere('side = ? AND taken = 0', side)
    const raised = this.#threshold(side) * growthFactor(this.#options[side], left)
    this.#facts.set(`${side}_threshold`, Math.min(1, raised))
  }

  #threshold(side: Side): number {
    return this.#facts.number(`${side}_threshold`) ?? 1
  }
}

/** Returns the factor by which a side can grow within its bounds; at least 1, and infinite for an empty side. */
function growthFactor(bounds: SideBounds, size: SideBounds): number {
  return Math.max(1, Math.min(bounds.texts / size.texts, bounds.characters / size.characters))
}

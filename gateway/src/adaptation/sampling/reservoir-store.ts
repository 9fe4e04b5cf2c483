import { placeSample, type SamplePlacement } from './sample-placement.ts'
import type { OfferedSample, StoredText, ReservoirStats } from '../../contracts/reservoir-object.ts'

/** The maximum size of a share, or its current size. */
export interface ShareBounds {
  texts: number
  characters: number
}

/** Options of a {@link ReservoirStore}. */
export interface ReservoirOptions {
  pool: ShareBounds
  holdout: ShareBounds
  /** Longer texts are truncated in the holdout, so that a few of them cannot fill it. */
  holdoutTextCharacters: number
  timeToLiveMs: number
  /** How long request ids are remembered, to ignore messages that are delivered twice. */
  rememberRequestsMs: number
  /** Determines which texts are kept; ignored if the domain has a seed already. */
  seed: string
  nowMs(): number
}

type Share = SamplePlacement['share']

/** The size of a share, and the priority from which on it accepts no texts. */
type ShareTally = ShareBounds & { threshold: number }

/** The facts that offers change, besides the texts. */
interface Tally {
  readonly frozen: boolean
  seen: number
  lastAtMs: number
  shares: Record<Share, ShareTally>
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS samples (
    hash TEXT PRIMARY KEY, share TEXT NOT NULL, priority REAL NOT NULL, key_id TEXT NOT NULL,
    text TEXT NOT NULL, characters INTEGER NOT NULL, at_ms INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS samples_priority ON samples (share, priority);
  CREATE INDEX IF NOT EXISTS samples_at ON samples (at_ms);
  CREATE INDEX IF NOT EXISTS samples_key ON samples (key_id);
  CREATE TABLE IF NOT EXISTS requests (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS requests_at ON requests (at_ms);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
`

/**
 * A bounded uniform sample of a domain's texts (the pool), with a disjoint holdout.
 *
 * The hash of a text determines its priority ({@link placeSample}). A share keeps the texts with the lowest priorities
 * until it is full, and from then on accepts only texts below the lowest priority that it ever rejected. This is
 * reservoir sampling (Vitter's algorithm R in distribution) that stays uniform under a bound on characters, ignores
 * duplicates and gives the same result when messages are delivered twice. When texts expire or are deleted, the
 * threshold is raised by the freed proportion, so that newer texts fill the space.
 */
export class ReservoirStore {
  readonly #storage: DurableObjectStorage
  readonly #sql: SqlStorage
  readonly #options: ReservoirOptions

  constructor(storage: DurableObjectStorage, options: ReservoirOptions) {
    this.#storage = storage
    this.#sql = storage.sql
    this.#options = options
    this.#sql.exec(SCHEMA)
    this.#sql.exec(`INSERT OR IGNORE INTO facts VALUES ('seed', ?)`, options.seed)
  }

  /** Offers texts, and keeps those that belong into the sample. */
  async offer(offers: readonly OfferedSample[]): Promise<void> {
    const { seed } = this.#sql
      .exec<{ seed: string }>(`SELECT value AS seed FROM facts WHERE name = 'seed'`)
      .one()
    const placed = await Promise.all(
      offers.map(async (offer) => ({ offer, placement: await placeSample(seed, offer.text) })),
    )
    const nowMs = this.#options.nowMs()
    this.#storage.transactionSync(() => {
      this.#sql.exec('DELETE FROM requests WHERE at_ms < ?', nowMs - this.#options.rememberRequestsMs)
      const tally = this.#openTally()
      for (const sample of placed) {
        const { rowsWritten } = this.#sql.exec(
          'INSERT OR IGNORE INTO requests VALUES (?, ?)',
          sample.offer.requestId,
          nowMs,
        )
        if (rowsWritten > 0) this.#insert(sample, tally, nowMs)
      }
      this.#saveTally(tally)
    })
  }

  /** Returns texts to calibrate on, in the order of priority, until they have `maxCharacters`. */
  texts(maxCharacters: number): StoredText[] {
    return this.#list('pool', maxCharacters)
  }

  /** Returns the held-out texts, in the order of priority; none once the holdout is frozen. */
  holdout(): StoredText[] {
    return this.#list('holdout', Infinity)
  }

  /** Stops collecting the holdout and deletes its texts, which are then stored as a dataset. */
  freezeHoldout(): void {
    this.#setFact('holdout_frozen', 1)
    this.#sql.exec(`DELETE FROM samples WHERE share = 'holdout'`)
  }

  /** Starts collecting a holdout again. */
  thawHoldout(): void {
    this.#sql.exec(`DELETE FROM facts WHERE name = 'holdout_frozen'`)
  }

  /** Returns the sizes and counts of the reservoir. */
  stats(): ReservoirStats {
    const pool = this.#size('pool')
    const holdout = this.#size('holdout')
    const lastSampleAtMs = this.#fact('last_at_ms')
    return {
      samples: pool.texts,
      characters: pool.characters,
      seen: Number(this.#fact('seen') ?? 0),
      holdoutSamples: holdout.texts,
      holdoutCharacters: holdout.characters,
      holdoutFrozen: this.#frozen,
      lastSampleAtMs: lastSampleAtMs === null ? null : Number(lastSampleAtMs),
    }
  }

  /**
   * Deletes the texts of one key, or all texts.
   *
   * @returns the number of deleted texts
   */
  delete(keyId?: string): number {
    return keyId === undefined ? this.#deleteWhere('true') : this.#deleteWhere('key_id = ?', keyId)
  }

  /** Deletes everything but the seed: texts, counts, and the frozen state of the holdout. */
  clear(): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec('DELETE FROM samples')
      this.#sql.exec(`DELETE FROM facts WHERE name <> 'seed'`)
    })
  }

  /** Deletes the expired texts. */
  expire(): void {
    this.#deleteWhere('at_ms <= ?', this.#options.nowMs() - this.#options.timeToLiveMs)
  }

  /** Returns when the next text expires, Unix milliseconds. */
  nextExpiryMs(): number | undefined {
    const { at } = this.#sql.exec<{ at: number | null }>('SELECT min(at_ms) AS at FROM samples').one()
    return at === null ? undefined : at + this.#options.timeToLiveMs
  }

  get #frozen(): boolean {
    return this.#fact('holdout_frozen') === 1
  }

  #insert(
    { offer, placement }: { offer: OfferedSample; placement: SamplePlacement },
    tally: Tally,
    nowMs: number,
  ): void {
    const { hash, share, priority } = placement
    const size = tally.shares[share]
    const atMs = Math.min(offer.atMs, nowMs)
    tally.seen += 1
    tally.lastAtMs = Math.max(atMs, tally.lastAtMs)
    if (share === 'holdout' && tally.frozen) return
    if (priority >= size.threshold || atMs <= nowMs - this.#options.timeToLiveMs) return
    const limit = share === 'holdout' ? this.#options.holdoutTextCharacters : Infinity
    const text = offer.text.length > limit ? offer.text.slice(0, limit).toWellFormed() : offer.text
    const { rowsWritten } = this.#sql.exec(
      'INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?)',
      hash,
      share,
      priority,
      offer.keyId,
      text,
      text.length,
      atMs,
    )
    if (rowsWritten === 0) return
    size.texts += 1
    size.characters += text.length
    this.#evict(share, size)
  }

  #evict(share: Share, size: ShareTally): void {
    const bounds = this.#options[share]
    while (size.texts > bounds.texts || size.characters > bounds.characters) {
      const [last] = this.#sql.exec<{ hash: string; priority: number; characters: number }>(
        'SELECT hash, priority, characters FROM samples WHERE share = ? ORDER BY priority DESC LIMIT 1',
        share,
      )
      if (!last) return
      this.#sql.exec('DELETE FROM samples WHERE hash = ?', last.hash)
      size.texts -= 1
      size.characters -= last.characters
      size.threshold = last.priority
    }
  }

  /** Reads the tally once for a transaction, so that each of thousands of texts costs only its own rows. */
  #openTally(): Tally {
    const share = (name: Share) => ({ ...this.#size(name), threshold: this.#threshold(name) })
    return {
      frozen: this.#frozen,
      seen: Number(this.#fact('seen') ?? 0),
      lastAtMs: Number(this.#fact('last_at_ms') ?? 0),
      shares: { pool: share('pool'), holdout: share('holdout') },
    }
  }

  #saveTally({ seen, lastAtMs, shares }: Tally): void {
    if (seen === 0) return
    this.#setFact('seen', seen)
    this.#setFact('last_at_ms', lastAtMs)
    for (const share of ['pool', 'holdout'] as const) {
      const { threshold } = shares[share]
      if (threshold < this.#threshold(share)) this.#setFact(`${share}_threshold`, threshold)
    }
  }

  #deleteWhere(condition: string, ...values: (string | number)[]): number {
    return this.#storage.transactionSync(() => {
      const before = { pool: this.#size('pool'), holdout: this.#size('holdout') }
      this.#sql.exec(`DELETE FROM samples WHERE ${condition}`, ...values)
      let deleted = 0
      for (const share of ['pool', 'holdout'] as const) {
        const left = this.#size(share)
        const removed = before[share].texts - left.texts
        deleted += removed
        if (removed === 0) continue
        const raised = this.#threshold(share) * growthFactor(this.#options[share], left)
        this.#setFact(`${share}_threshold`, Math.min(1, raised))
      }
      return deleted
    })
  }

  #threshold(share: Share): number {
    return Number(this.#fact(`${share}_threshold`) ?? 1)
  }

  #list(share: Share, maxCharacters: number): StoredText[] {
    const texts: StoredText[] = []
    let characters = 0
    for (const row of this.#sql.exec<{ text: string; keyId: string }>(
      'SELECT text, key_id AS keyId FROM samples WHERE share = ? ORDER BY priority',
      share,
    )) {
      if (characters >= maxCharacters) break
      texts.push(row)
      characters += row.text.length
    }
    return texts
  }

  #size(share: Share): ShareBounds {
    return this.#sql
      .exec<{ texts: number; characters: number }>(
        'SELECT count(*) AS texts, coalesce(sum(characters), 0) AS characters FROM samples WHERE share = ?',
        share,
      )
      .one()
  }

  #fact(name: string): SqlStorageValue {
    const [row] = this.#sql.exec<{ value: SqlStorageValue }>('SELECT value FROM facts WHERE name = ?', name)
    return row?.value ?? null
  }

  #setFact(name: string, value: number): void {
    this.#sql.exec(
      'INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value',
      name,
      value,
    )
  }
}

/** Returns the factor by which a share can grow within its bounds; at least 1, and infinite for an empty share. */
function growthFactor(bounds: ShareBounds, size: ShareBounds): number {
  return Math.max(1, Math.min(bounds.texts / size.texts, bounds.characters / size.characters))
}

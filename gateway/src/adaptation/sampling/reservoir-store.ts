import { drawLot, type SampleLot } from './sample-lot.ts'
import type { OfferedSample, StoredText, ReservoirStats } from '../../contracts/reservoir-object.ts'

/** How much one share keeps. */
export interface ShareBounds {
  texts: number
  characters: number
}

/** What a {@link ReservoirStore} is given. */
export interface ReservoirOptions {
  pool: ShareBounds
  holdout: ShareBounds
  /** Longer texts are held out by their beginning only, so that a few cannot fill the holdout. */
  holdoutTextCharacters: number
  timeToLiveMs: number
  /** How long a request id is remembered, against messages that are delivered twice. */
  rememberRequestsMs: number
  /** Fixes which texts are kept; used only when the domain has none yet. */
  seed: string
  nowMs(): number
}

type Share = SampleLot['share']

/** What a share has, and the lot from which on it takes no more. */
type ShareTally = ShareBounds & { threshold: number }

/** What offers change beside the texts. */
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
 * A bounded uniform sample of a domain's texts, with a holdout that never meets it.
 *
 * Each text draws a lot by its hash ({@link drawLot}); a share keeps the texts with the lowest lots
 * until it is full, and from then on only those below the lowest lot that it ever turned away. That is
 * reservoir sampling (Vitter's algorithm R in distribution) which stays uniform under a bound on
 * characters, ignores duplicates by itself and gives the same result when messages are delivered twice.
 * Where texts expire or are deleted, the threshold is raised by the share that became free, so that
 * newer texts fill it.
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

  /** Takes what belongs into the sample. */
  async offer(offers: readonly OfferedSample[]): Promise<void> {
    const { seed } = this.#sql
      .exec<{ seed: string }>(`SELECT value AS seed FROM facts WHERE name = 'seed'`)
      .one()
    const placed = await Promise.all(
      offers.map(async (offer) => ({ offer, place: await drawLot(seed, offer.text) })),
    )
    const nowMs = this.#options.nowMs()
    this.#storage.transactionSync(() => {
      this.#sql.exec('DELETE FROM requests WHERE at_ms < ?', nowMs - this.#options.rememberRequestsMs)
      const tally = this.#openTally()
      for (const one of placed) {
        const { rowsWritten } = this.#sql.exec(
          'INSERT OR IGNORE INTO requests VALUES (?, ?)',
          one.offer.requestId,
          nowMs,
        )
        if (rowsWritten > 0) this.#take(one, tally, nowMs)
      }
      this.#saveTally(tally)
    })
  }

  /** Texts to calibrate on, in the order of their lots, until `maxCharacters` are together. */
  texts(maxCharacters: number): StoredText[] {
    return this.#list('pool', maxCharacters)
  }

  /** The held-out texts, in the order of their lots; none once the holdout is frozen. */
  holdout(): StoredText[] {
    return this.#list('holdout', Infinity)
  }

  /** From now on nothing is added to the holdout; its texts are stored elsewhere, and so dropped here. */
  freezeHoldout(): void {
    this.#setFact('holdout_frozen', 1)
    this.#sql.exec(`DELETE FROM samples WHERE share = 'holdout'`)
  }

  /** Gathers a holdout again. */
  thawHoldout(): void {
    this.#sql.exec(`DELETE FROM facts WHERE name = 'holdout_frozen'`)
  }

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
   * Deletes the texts of one key, or all.
   *
   * @returns how many texts there were.
   */
  delete(keyId?: string): number {
    return keyId === undefined ? this.#deleteWhere('true') : this.#deleteWhere('key_id = ?', keyId)
  }

  /** Forgets the domain: texts, counts, and that its holdout was frozen. */
  clear(): void {
    this.#storage.transactionSync(() => {
      this.#sql.exec('DELETE FROM samples')
      this.#sql.exec(`DELETE FROM facts WHERE name <> 'seed'`)
    })
  }

  /** Deletes the texts whose time is over. */
  expire(): void {
    this.#deleteWhere('at_ms <= ?', this.#options.nowMs() - this.#options.timeToLiveMs)
  }

  /** When {@link expire} has something to do next, Unix milliseconds. */
  nextExpiryMs(): number | undefined {
    const { at } = this.#sql.exec<{ at: number | null }>('SELECT min(at_ms) AS at FROM samples').one()
    return at === null ? undefined : at + this.#options.timeToLiveMs
  }

  get #frozen(): boolean {
    return this.#fact('holdout_frozen') === 1
  }

  #take({ offer, place }: { offer: OfferedSample; place: SampleLot }, tally: Tally, nowMs: number): void {
    const { hash, share, priority } = place
    const kept = tally.shares[share]
    const atMs = Math.min(offer.atMs, nowMs)
    tally.seen += 1
    tally.lastAtMs = Math.max(atMs, tally.lastAtMs)
    if (share === 'holdout' && tally.frozen) return
    if (priority >= kept.threshold || atMs <= nowMs - this.#options.timeToLiveMs) return
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
    kept.texts += 1
    kept.characters += text.length
    this.#evict(share, kept)
  }

  #evict(share: Share, kept: ShareTally): void {
    const bounds = this.#options[share]
    while (kept.texts > bounds.texts || kept.characters > bounds.characters) {
      const [last] = this.#sql.exec<{ hash: string; priority: number; characters: number }>(
        'SELECT hash, priority, characters FROM samples WHERE share = ? ORDER BY priority DESC LIMIT 1',
        share,
      )
      if (!last) return
      this.#sql.exec('DELETE FROM samples WHERE hash = ?', last.hash)
      kept.texts -= 1
      kept.characters -= last.characters
      kept.threshold = last.priority
    }
  }

  /** Read once a transaction, and written once: of thousands of texts each costs its own rows only. */
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
        const gone = before[share].texts - left.texts
        deleted += gone
        if (gone === 0) continue
        const raised = this.#threshold(share) * room(this.#options[share], left)
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

/** By how much the share can grow until one of its bounds is met; at least 1, and without end when it is empty. */
function room(bounds: ShareBounds, size: ShareBounds): number {
  return Math.max(1, Math.min(bounds.texts / size.texts, bounds.characters / size.characters))
}

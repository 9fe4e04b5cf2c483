import type { CachedResponse, FoundResponse } from '../../contracts/response-cache-object.ts'

/** How much a {@link CacheStore} keeps. */
export interface CacheBounds {
  /** Of all answers together. */
  bytes: number
  answers: number
  /** Larger ones are not kept. */
  answerBytes: number
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, body BLOB NOT NULL, content_type TEXT NOT NULL, mask_version INTEGER NOT NULL,
    node TEXT NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS answers_at ON answers (at_ms);
  CREATE INDEX IF NOT EXISTS answers_expires ON answers (expires_ms);
`

/** What a row takes beside its body: names, times and indices. */
const ROW_BYTES = 512

/**
 * Answers by key in a Durable Object's SQLite, bounded: when there is no more room the oldest go. By age and not by use,
 * since that would make a write of every hit.
 */
export class CacheStore {
  readonly #sql: SqlStorage
  readonly #bounds: CacheBounds
  #answers: number
  #bytes: number

  constructor(storage: Pick<DurableObjectStorage, 'sql'>, bounds: CacheBounds) {
    this.#sql = storage.sql
    this.#bounds = bounds
    this.#sql.exec(SCHEMA)
    const { answers, bytes } = this.#sql
      .exec<{ answers: number; bytes: number }>(
        'SELECT count(*) AS answers, coalesce(sum(bytes), 0) AS bytes FROM answers',
      )
      .one()
    this.#answers = answers
    this.#bytes = bytes
  }

  get answers(): number {
    return this.#answers
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The answer of a key, if its time is not over and it is no older than `maxAgeMs`. */
  find(key: string, maxAgeMs: number, nowMs: number): FoundResponse | undefined {
    const [row] = this.#sql
      .exec<{ body: ArrayBuffer; content_type: string; mask_version: number; node: string; at_ms: number }>(
        'SELECT body, content_type, mask_version, node, at_ms FROM answers WHERE key = ? AND expires_ms > ? AND at_ms > ?',
        key,
        nowMs,
        nowMs - maxAgeMs,
      )
      .toArray()
    return (
      row && {
        body: new Uint8Array(row.body),
        contentType: row.content_type,
        maskVersion: row.mask_version,
        nodeId: row.node,
        ageMs: Math.max(0, nowMs - row.at_ms),
      }
    )
  }

  /** Keeps an answer in place of what its key had; one that is too large is not kept. */
  keep(key: string, answer: CachedResponse, ttlMs: number, nowMs: number): void {
    this.#delete('key = ?', key)
    const bytes = answer.body.byteLength + ROW_BYTES
    if (answer.body.byteLength > this.#bounds.answerBytes) return
    this.expire(nowMs)
    while (this.#answers >= this.#bounds.answers || this.#bytes + bytes > this.#bounds.bytes)
      this.#delete('key = (SELECT key FROM answers ORDER BY at_ms LIMIT 1)')
    this.#sql.exec(
      'INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      key,
      answer.body,
      answer.contentType,
      answer.maskVersion,
      answer.nodeId,
      bytes,
      nowMs,
      nowMs + ttlMs,
    )
    this.#answers += 1
    this.#bytes += bytes
  }

  /** Deletes the answers whose time is over. */
  expire(nowMs: number): void {
    this.#delete('expires_ms <= ?', nowMs)
  }

  /** When the next answer's time is over; undefined when there is none. */
  nextExpiryMs(): number | undefined {
    const { next } = this.#sql
      .exec<{ next: number | null }>('SELECT min(expires_ms) AS next FROM answers')
      .one()
    return next ?? undefined
  }

  clear(): void {
    this.#delete('true')
  }

  #delete(condition: string, ...bindings: (string | number)[]): void {
    const gone = this.#sql
      .exec<{ bytes: number }>(`DELETE FROM answers WHERE ${condition} RETURNING bytes`, ...bindings)
      .toArray()
    this.#answers -= gone.length
    for (const { bytes } of gone) this.#bytes -= bytes
  }
}

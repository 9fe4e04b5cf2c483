import type { CachedResponse, FoundResponse } from '../../contracts/response-cache-object.ts'

/** Bounds of a {@link CacheStore}. */
export interface CacheBounds {
  /** Maximum bytes of all responses together. */
  bytes: number
  responses: number
  /** Maximum bytes of one response; larger ones are not cached. */
  responseBytes: number
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, body BLOB NOT NULL, content_type TEXT NOT NULL, mask_version INTEGER NOT NULL,
    node TEXT NOT NULL, bytes INTEGER NOT NULL, at_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL
  );
  CREATE INDEX IF NOT EXISTS answers_at ON answers (at_ms);
  CREATE INDEX IF NOT EXISTS answers_expires ON answers (expires_ms);
`

/** Estimated bytes of a row besides its body: names, times and indices. */
const ROW_BYTES = 512

/**
 * A bounded store of responses by key in a Durable Object's SQLite. When it is full, the oldest responses are deleted:
 * by age and not by last use, because recording each use would make every hit a write.
 */
export class CacheStore {
  readonly #sql: SqlStorage
  readonly #bounds: CacheBounds
  #responses: number
  #bytes: number

  constructor(storage: Pick<DurableObjectStorage, 'sql'>, bounds: CacheBounds) {
    this.#sql = storage.sql
    this.#bounds = bounds
    this.#sql.exec(SCHEMA)
    const { responses, bytes } = this.#sql
      .exec<{ responses: number; bytes: number }>(
        'SELECT count(*) AS responses, coalesce(sum(bytes), 0) AS bytes FROM answers',
      )
      .one()
    this.#responses = responses
    this.#bytes = bytes
  }

  get responses(): number {
    return this.#responses
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Returns the response of a key unless it has expired or is older than `maxAgeMs`. */
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

  /** Stores a response in place of the key's previous one; a response that is too large is not stored. */
  store(key: string, response: CachedResponse, ttlMs: number, nowMs: number): void {
    this.#delete('key = ?', key)
    const bytes = response.body.byteLength + ROW_BYTES
    if (response.body.byteLength > this.#bounds.responseBytes) return
    this.expire(nowMs)
    while (this.#responses >= this.#bounds.responses || this.#bytes + bytes > this.#bounds.bytes)
      this.#delete('key = (SELECT key FROM answers ORDER BY at_ms LIMIT 1)')
    this.#sql.exec(
      'INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      key,
      response.body,
      response.contentType,
      response.maskVersion,
      response.nodeId,
      bytes,
      nowMs,
      nowMs + ttlMs,
    )
    this.#responses += 1
    this.#bytes += bytes
  }

  /** Deletes the expired responses. */
  expire(nowMs: number): void {
    this.#delete('expires_ms <= ?', nowMs)
  }

  /** Returns when the next response expires, Unix milliseconds; undefined for an empty store. */
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
    const deleted = this.#sql
      .exec<{ bytes: number }>(`DELETE FROM answers WHERE ${condition} RETURNING bytes`, ...bindings)
      .toArray()
    this.#responses -= deleted.length
    for (const { bytes } of deleted) this.#bytes -= bytes
  }
}

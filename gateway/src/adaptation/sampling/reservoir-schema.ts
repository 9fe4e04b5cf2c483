import { headHash } from './text-hash.ts'
import type { Side } from '../../contracts/reservoir-object.ts'

/** The version of the tables, stored as the fact `schema`. Version 1 had one table `samples` and stored no fact. */
const SCHEMA_VERSION = 2

/**
 * - `texts`, `sources`: the stored texts, and the requests that they came with. `taken` is 1 if any model has taken the text.
 * - `taken`: the texts that models have taken, by hash; they stay when the text goes.
 * - `sides`: the heads of texts that models have taken or that were held out, and of their conversations' first messages.
 * - `offered`: texts that were offered in a conversation lately.
 * - `deletions`: what was deleted lately, so that a sample that was queued before is not stored afterwards.
 */
const TABLES = `
  CREATE TABLE IF NOT EXISTS texts (
    hash TEXT PRIMARY KEY, head TEXT NOT NULL, side TEXT NOT NULL, priority REAL NOT NULL, text TEXT NOT NULL,
    characters INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS texts_priority ON texts (side, priority);
  CREATE INDEX IF NOT EXISTS texts_taken ON texts (side, taken, priority);
  CREATE INDEX IF NOT EXISTS texts_head ON texts (head);
  CREATE TABLE IF NOT EXISTS sources (
    hash TEXT NOT NULL, key_id TEXT NOT NULL, conversation TEXT NOT NULL, request_id TEXT NOT NULL, tenant TEXT NOT NULL,
    consent_version INTEGER NOT NULL, opening TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (hash, key_id, conversation)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS sources_at ON sources (at_ms);
  CREATE INDEX IF NOT EXISTS sources_opening ON sources (opening);
  CREATE TABLE IF NOT EXISTS taken (
    model TEXT NOT NULL, hash TEXT NOT NULL, update_id TEXT NOT NULL, PRIMARY KEY (model, hash)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS taken_update ON taken (model, update_id);
  CREATE INDEX IF NOT EXISTS taken_hash ON taken (hash);
  CREATE TABLE IF NOT EXISTS sides (hash TEXT PRIMARY KEY, side TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS offered (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS offered_at ON offered (at_ms);
  CREATE TABLE IF NOT EXISTS deletions (filter TEXT NOT NULL, at_ms INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
`

/** Creates the tables that do not exist yet. */
export function createTables(sql: SqlStorage): void {
  sql.exec(TABLES)
}

/** A row of the table `samples` of version 1. */
type OldRow = Record<'hash' | 'share' | 'key_id' | 'text', string> & Record<'priority' | 'at_ms', number>

/**
 * Moves the texts of version 1 into the tables of this version; does nothing if there are none.
 *
 * That version held out texts by their own hash and joined the messages of a conversation, so the same first message may
 * stand on both sides: such texts are dropped from the holdout. If its holdout was frozen, the fact `old_sides` is set,
 * until the hashes of that holdout are known.
 */
export async function migrateOldSamples(storage: DurableObjectStorage): Promise<void> {
  const { sql } = storage
  const [old] = sql.exec(`SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'samples'`)
  const setVersion = () => sql.exec(`INSERT OR REPLACE INTO facts VALUES ('schema', ?)`, SCHEMA_VERSION)
  if (!old) {
    setVersion()
    return
  }
  const rows = await Promise.all(
    sql
      .exec<OldRow>('SELECT hash, share, key_id, text, priority, at_ms FROM samples')
      .toArray()
      .map(async (row) => ({
        row,
        head: await headHash(row.text),
        opening: await headHash(firstParagraph(row.text)),
      })),
  )
  const inPool = new Set(rows.flatMap(({ row, opening }) => (row.share === 'pool' ? opening : [])))
  storage.transactionSync(() => {
    for (const { row, head, opening } of rows) {
      const side: Side = row.share === 'holdout' ? 'holdout' : 'pool'
      if (side === 'holdout' && inPool.has(opening)) continue
      const { hash, priority, text } = row
      sql.exec(
        'INSERT OR IGNORE INTO texts VALUES (?, ?, ?, ?, ?, ?, 0)',
        hash,
        head,
        side,
        priority,
        text,
        text.length,
      )
      sql.exec(
        `INSERT OR IGNORE INTO sources VALUES (?, ?, '', '', '', 0, ?, ?)`,
        hash,
        row.key_id,
        opening,
        row.at_ms,
      )
    }
    sql.exec(`DROP TABLE samples; DROP TABLE IF EXISTS requests`)
    sql.exec(
      `INSERT OR REPLACE INTO facts SELECT 'old_sides', value FROM facts WHERE name = 'holdout_frozen'`,
    )
    // The bounds of the holdout have grown.
    sql.exec(`DELETE FROM facts WHERE name IN ('holdout_frozen', 'holdout_threshold')`)
    setVersion()
  })
}

function firstParagraph(text: string): string {
  return text.split('\n\n', 1)[0] || text
}

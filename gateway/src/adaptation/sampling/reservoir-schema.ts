/**
 * - `texts`, `sources`: the stored texts, and the requests that they came with. `tenant` and `key_id` are those of the source
 *   that the text counts for. `taken` is 1 if any model has taken the text. `offered_nll` is the dense loss that it came with; `review`
 *   see `reservoir-review.ts`; `sketch` see `near-duplicate.ts`.
 *   The last three indexes have what is counted, so that counting does not read the texts.
 * - `descriptions`: what the dense weights of a model make of stored texts; `embedding` is f32. `found` is 1 if the
 *   classifier put the text into the domain, and `embedding` is empty then. It goes with its text.
 * - `thresholds`: the priorities from which on texts of a key are rejected, where there are any.
 * - `taken`: the texts that models have taken, by hash; they stay when the text goes.
 * - `parts`: the characters of texts of which models have taken only the beginning.
 * - `sides`: the hashes and heads of texts that models have taken or that were held out, and of their conversations' first
 *   messages; `sketch` is that of a text.
 * - `offered`: texts that were offered in a conversation lately.
 * - `deletions`: what was deleted lately, so that a sample that was queued before is not stored afterwards.
 */
const TABLES = `
  CREATE TABLE IF NOT EXISTS texts (
    hash TEXT PRIMARY KEY, head TEXT NOT NULL, side TEXT NOT NULL, priority REAL NOT NULL, text TEXT NOT NULL,
    characters INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0, tenant TEXT NOT NULL DEFAULT '',
    key_id TEXT NOT NULL DEFAULT '', offered_nll REAL, review INTEGER NOT NULL DEFAULT 0, sketch BLOB
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS texts_priority ON texts (side, priority);
  CREATE INDEX IF NOT EXISTS texts_taken ON texts (side, taken, priority);
  CREATE INDEX IF NOT EXISTS texts_head ON texts (head);
  CREATE INDEX IF NOT EXISTS texts_key ON texts (side, tenant, key_id, priority);
  CREATE INDEX IF NOT EXISTS texts_size ON texts (side, review, characters);
  CREATE INDEX IF NOT EXISTS texts_review ON texts (review);
  CREATE INDEX IF NOT EXISTS texts_nll ON texts (key_id, offered_nll) WHERE offered_nll IS NOT NULL;
  CREATE TABLE IF NOT EXISTS thresholds (
    side TEXT NOT NULL, tenant TEXT NOT NULL, key_id TEXT NOT NULL, threshold REAL NOT NULL,
    PRIMARY KEY (side, tenant, key_id)
  ) WITHOUT ROWID;
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
  CREATE TABLE IF NOT EXISTS parts (
    model TEXT NOT NULL, hash TEXT NOT NULL, characters INTEGER NOT NULL, PRIMARY KEY (model, hash)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS sides (hash TEXT PRIMARY KEY, side TEXT NOT NULL, sketch BLOB) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS sides_sketch ON sides (hash) WHERE sketch IS NOT NULL;
  CREATE TABLE IF NOT EXISTS offered (id TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS offered_at ON offered (at_ms);
  CREATE TABLE IF NOT EXISTS deletions (filter TEXT NOT NULL, at_ms INTEGER NOT NULL);
  CREATE INDEX IF NOT EXISTS deletions_at ON deletions (at_ms);
  CREATE TABLE IF NOT EXISTS descriptions (
    hash TEXT NOT NULL, base TEXT NOT NULL, tokens INTEGER NOT NULL, embedding BLOB NOT NULL, nll REAL,
    found INTEGER NOT NULL, proposal TEXT, PRIMARY KEY (hash, base)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS descriptions_base ON descriptions (base, found);
  CREATE INDEX IF NOT EXISTS descriptions_proposal ON descriptions (proposal);
  CREATE TRIGGER IF NOT EXISTS texts_deleted AFTER DELETE ON texts BEGIN
    DELETE FROM descriptions WHERE hash = OLD.hash;
  END;
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
`

/** Columns that `texts` has since version 3. */
const NEW_COLUMNS = [
  `tenant TEXT NOT NULL DEFAULT ''`,
  `key_id TEXT NOT NULL DEFAULT ''`,
  'offered_nll REAL',
  'review INTEGER NOT NULL DEFAULT 0',
  'sketch BLOB',
]

/** Creates the tables and columns that do not exist yet. */
export function createTables(sql: SqlStorage): void {
  const columns = columnsOf(sql, 'texts')
  if (columns.length > 0 && !columns.includes('sketch')) {
    for (const column of NEW_COLUMNS) {
      if (!columns.includes(column.split(' ', 1)[0] ?? '')) sql.exec(`ALTER TABLE texts ADD COLUMN ${column}`)
    }
  }
  const ofSides = columnsOf(sql, 'sides')
  if (ofSides.length > 0 && !ofSides.includes('sketch')) sql.exec('ALTER TABLE sides ADD COLUMN sketch BLOB')
  sql.exec(TABLES)
}

function columnsOf(sql: SqlStorage, table: string): string[] {
  return sql
    .exec<{ name: string }>('SELECT name FROM pragma_table_info(?)', table)
    .toArray()
    .map(({ name }) => name)
}

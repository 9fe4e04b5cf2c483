import { headHash } from './text-hash.ts'
import { sketchOf } from './near-duplicate.ts'
import { MAX_PIECE_CHARACTERS, placeSample } from './sample-placement.ts'
import { splitText } from './split-text.ts'
import type { Side } from '../../contracts/reservoir-object.ts'

/** The version of the tables, stored as the fact `schema`. Version 1 had one table `samples` and stored no fact. */
const SCHEMA_VERSION = 3

/** Moves what an earlier version stored into the tables of this one. Repeating it changes nothing. */
export async function migrateReservoir(storage: DurableObjectStorage): Promise<void> {
  await migrateSamples(storage)
  const [version] = storage.sql.exec<{ value: number }>(`SELECT value FROM facts WHERE name = 'schema'`)
  if ((version?.value ?? 0) < SCHEMA_VERSION) await migrateTexts(storage)
}

/** A row of the table `samples` of version 1. */
type OldSample = Record<'hash' | 'share' | 'key_id' | 'text', string> & Record<'priority' | 'at_ms', number>

/**
 * Moves the texts of version 1 into the tables of version 2; does nothing if there are none.
 *
 * That version held out texts by their own hash and joined the messages of a conversation, so the same first message may
 * stand on both sides: such texts are dropped from the holdout. If its holdout was frozen, the fact `old_sides` is set,
 * until the hashes of that holdout are known.
 */
async function migrateSamples(storage: DurableObjectStorage): Promise<void> {
  const { sql } = storage
  const [old] = sql.exec(`SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'samples'`)
  if (!old) return
  const rows = await Promise.all(
    sql
      .exec<OldSample>('SELECT hash, share, key_id, text, priority, at_ms FROM samples')
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
        'INSERT OR IGNORE INTO texts (hash, head, side, priority, text, characters) VALUES (?, ?, ?, ?, ?, ?)',
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
  })
}

/** A row of the table `texts` of version 2. */
type OldText = Record<'hash' | 'head' | 'text', string> &
  Record<'priority' | 'taken', number> & { side: Side }

/**
 * Splits the texts of version 2 into pieces that stay on their side and are taken by the models that took the whole, and
 * stores for which key each counts. The threshold of a side becomes that of each of its keys.
 */
async function migrateTexts(storage: DurableObjectStorage): Promise<void> {
  const { sql } = storage
  const seed =
    sql.exec<{ value: string }>(`SELECT value FROM facts WHERE name = 'seed'`).toArray()[0]?.value ?? ''
  const texts = sql.exec<OldText>('SELECT hash, head, side, priority, text, taken FROM texts').toArray()
  const whole = texts.filter(({ text }) => text.length <= MAX_PIECE_CHARACTERS)
  const pieces = await Promise.all(
    texts
      .filter(({ text }) => text.length > MAX_PIECE_CHARACTERS)
      .map(async (row) => ({
        row,
        pieces: await Promise.all(
          splitText(row.text, MAX_PIECE_CHARACTERS).map(async (text, index) => {
            const placement = await placeSample(seed, { text })
            return { ...placement, text, head: index === 0 ? row.head : placement.head }
          }),
        ),
      })),
  )
  storage.transactionSync(() => {
    for (const { hash, text } of whole) {
      sql.exec('UPDATE texts SET sketch = ? WHERE hash = ?', blobOf(text), hash)
    }
    for (const { row, pieces: parts } of pieces) {
      for (const { hash, head, priority, text } of parts) {
        sql.exec(
          `INSERT OR IGNORE INTO texts (hash, head, side, priority, text, characters, taken, sketch)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
          hash,
          head,
          row.side,
          priority,
          text,
          text.length,
          row.taken,
          blobOf(text),
        )
        sql.exec(
          `INSERT OR IGNORE INTO sources
           SELECT ?, key_id, conversation, request_id, tenant, consent_version, opening, at_ms FROM sources WHERE hash = ?`,
          hash,
          row.hash,
        )
        sql.exec(
          'INSERT OR IGNORE INTO taken SELECT model, ?, update_id FROM taken WHERE hash = ?',
          hash,
          row.hash,
        )
      }
      sql.exec('DELETE FROM texts WHERE hash = ?', row.hash)
      sql.exec('DELETE FROM sources WHERE hash = ?', row.hash)
    }
    sql.exec(
      `UPDATE texts SET (tenant, key_id) =
         (SELECT tenant, key_id FROM sources WHERE sources.hash = texts.hash ORDER BY at_ms, key_id LIMIT 1)
       WHERE hash IN (SELECT hash FROM sources)`,
    )
    sql.exec(
      `INSERT OR IGNORE INTO thresholds
       SELECT DISTINCT texts.side, texts.tenant, texts.key_id, facts.value
       FROM texts JOIN facts ON facts.name = texts.side || '_threshold'`,
    )
    sql.exec(`DELETE FROM facts WHERE name IN ('pool_threshold', 'holdout_threshold')`)
    sql.exec(`INSERT OR REPLACE INTO facts VALUES ('schema', ?)`, SCHEMA_VERSION)
  })
}

function blobOf(text: string): ArrayBuffer | null {
  return blob(sketchOf(text))
}

/** Returns a sketch as SQLite stores it. */
export function blob(sketch: Uint8Array | undefined): ArrayBuffer | null {
  return sketch ? new Uint8Array(sketch).buffer : null
}

function firstParagraph(text: string): string {
  return text.split('\n\n', 1)[0] || text
}

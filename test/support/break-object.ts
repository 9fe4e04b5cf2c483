import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const COLUMN = 'value BLOB'
const BROKEN_COLUMN = 'value BLOB REFERENCES there_were (value) DEFERRABLE INITIALLY DEFERRED'

/**
 * Until it is mended, the gateway's Fleet object is reset by whatever it stores: only what was there before is a valid
 * value, which is found out when a transaction is committed, and for that workerd resets an object.
 */
export function breakFleetObject(stateDir: string): { mend: () => void } {
  const column = (from: string, to: string) =>
    `UPDATE sqlite_schema SET sql = replace(sql, '${from}', '${to}') WHERE name = '_cf_KV'`
  const change = (...statements: string[]) =>
    withDatabase(stateDir, (database) => {
      for (const statement of ['PRAGMA writable_schema = 1', 'BEGIN IMMEDIATE', ...statements, 'COMMIT'])
        database.exec(statement)
    })
  change(
    'CREATE TABLE there_were (value BLOB PRIMARY KEY)',
    'INSERT INTO there_were SELECT DISTINCT value FROM _cf_KV',
    column(COLUMN, BROKEN_COLUMN),
  )
  let mended = false
  return {
    mend() {
      if (!mended) change(column(BROKEN_COLUMN, COLUMN), 'DROP TABLE there_were')
      mended = true
    },
  }
}

/** How many requests have a reservation that the gateway's Fleet object has stored. */
export function storedReservations(stateDir: string): number {
  const count = "SELECT count(*) AS holds FROM _cf_KV WHERE key LIKE 'hold:%'"
  return withDatabase(stateDir, (database) => (database.prepare(count).get() as { holds: number }).holds)
}

function withDatabase<T>(stateDir: string, use: (database: DatabaseSync) => T): T {
  const dir = join(stateDir, 'v3', 'do', 'copal-Fleet')
  const name = readdirSync(dir).find((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
  if (!name) throw new Error(`there is no object in ${dir}`)
  const options = { timeout: 5_000, enableForeignKeyConstraints: false, defensive: false }
  const database = new DatabaseSync(join(dir, name), options)
  try {
    return use(database)
  } finally {
    database.close()
  }
}

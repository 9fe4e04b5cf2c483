import { breakage, rewriteSchema, withSqlite, type Breakage } from './gateway-sqlite.ts'

const COLUMN = 'value BLOB'
const BROKEN_COLUMN = 'value BLOB REFERENCES there_were (value) DEFERRABLE INITIALLY DEFERRED'

/**
 * Makes every write of the gateway's Fleet object fail until the repair: a deferred foreign key allows only the values that
 * were stored before. The commit fails, and workerd resets the object.
 */
export function breakFleetObject(stateDir: string): Breakage {
  const column = (from: string, to: string) =>
    `UPDATE sqlite_schema SET sql = replace(sql, '${from}', '${to}') WHERE name = '_cf_KV'`
  rewriteSchema(stateDir, 'fleet', [
    'CREATE TABLE there_were (value BLOB PRIMARY KEY)',
    'INSERT INTO there_were SELECT DISTINCT value FROM _cf_KV',
    column(COLUMN, BROKEN_COLUMN),
  ])
  return breakage(() =>
    rewriteSchema(stateDir, 'fleet', [column(BROKEN_COLUMN, COLUMN), 'DROP TABLE there_were']),
  )
}

/** Returns how many requests have a reservation that the gateway's Fleet object has stored. */
export function storedReservations(stateDir: string): number {
  const count = "SELECT count(*) AS holds FROM _cf_KV WHERE key LIKE 'hold:%'"
  return withSqlite(
    stateDir,
    'fleet',
    (database) => (database.prepare(count).get() as { holds: number }).holds,
  )
}

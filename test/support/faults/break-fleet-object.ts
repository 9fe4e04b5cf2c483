import { broken, rewriteSchema, withSqlite, type Broken } from './gateway-sqlite.ts'

const COLUMN = 'value BLOB'
const BROKEN_COLUMN = 'value BLOB REFERENCES there_were (value) DEFERRABLE INITIALLY DEFERRED'

/**
 * Until it is mended, the gateway's Fleet object is reset by whatever it stores: only what was there before is a valid
 * value, which is found out when a transaction is committed, and for that workerd resets an object.
 */
export function breakFleetObject(stateDir: string): Broken {
  const column = (from: string, to: string) =>
    `UPDATE sqlite_schema SET sql = replace(sql, '${from}', '${to}') WHERE name = '_cf_KV'`
  rewriteSchema(stateDir, 'fleet', [
    'CREATE TABLE there_were (value BLOB PRIMARY KEY)',
    'INSERT INTO there_were SELECT DISTINCT value FROM _cf_KV',
    column(COLUMN, BROKEN_COLUMN),
  ])
  return broken(() =>
    rewriteSchema(stateDir, 'fleet', [column(BROKEN_COLUMN, COLUMN), 'DROP TABLE there_were']),
  )
}

/** How many requests have a reservation that the gateway's Fleet object has stored. */
export function storedReservations(stateDir: string): number {
  const count = "SELECT count(*) AS holds FROM _cf_KV WHERE key LIKE 'hold:%'"
  return withSqlite(
    stateDir,
    'fleet',
    (database) => (database.prepare(count).get() as { holds: number }).holds,
  )
}

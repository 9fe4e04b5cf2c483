import { broken, rewriteSchema, withSqlite, type Broken } from './gateway-sqlite.ts'

/** Takes tables of the gateway's database away, as a database that fails does. */
export function breakDatabase(stateDir: string, tables: readonly string[]): Broken {
  const rename = (from: (name: string) => string, to: (name: string) => string) =>
    withSqlite(stateDir, 'database', (database) => {
      for (const table of tables) database.exec(`ALTER TABLE ${from(table)} RENAME TO ${to(table)}`)
    })
  const away = (name: string) => `${name}_away`
  const here = (name: string) => name
  rename(here, away)
  return broken(() => rename(away, here))
}

/** Until it is mended, the gateway's database is malformed where it is asked for a key: table and index have each other's pages. */
export function corruptKeys(stateDir: string): Broken {
  const root = (name: string) => `(SELECT rootpage FROM sqlite_schema WHERE name = '${name}')`
  const swap = () =>
    rewriteSchema(stateDir, 'database', [
      // Of a table that comes and goes other connections see that there is another schema.
      'CREATE TABLE passing (id)',
      'DROP TABLE passing',
      `UPDATE sqlite_schema SET rootpage = ${root('api_keys')} + ${root('api_keys_hash')} - rootpage
        WHERE name IN ('api_keys', 'api_keys_hash')`,
    ])
  swap()
  return broken(swap)
}

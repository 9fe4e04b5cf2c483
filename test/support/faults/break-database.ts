import { breakage, rewriteSchema, withSqlite, type Breakage } from './gateway-sqlite.ts'

/** Renames tables of the gateway's database, so that queries fail until the repair. */
export function breakDatabase(stateDir: string, tables: readonly string[]): Breakage {
  const rename = (from: (name: string) => string, to: (name: string) => string) =>
    withSqlite(stateDir, 'database', (database) => {
      for (const table of tables) database.exec(`ALTER TABLE ${from(table)} RENAME TO ${to(table)}`)
    })
  const away = (name: string) => `${name}_away`
  const here = (name: string) => name
  rename(here, away)
  return breakage(() => rename(away, here))
}

/** Swaps the pages of the key table and its index, so that looking up a key finds a malformed database until the repair. */
export function corruptKeys(stateDir: string): Breakage {
  const root = (name: string) => `(SELECT rootpage FROM sqlite_schema WHERE name = '${name}')`
  const swap = () =>
    rewriteSchema(stateDir, 'database', [
      // Creating and dropping a table tells other connections that the schema changed.
      'CREATE TABLE passing (id)',
      'DROP TABLE passing',
      `UPDATE sqlite_schema SET rootpage = ${root('api_keys')} + ${root('api_keys_hash')} - rootpage
        WHERE name IN ('api_keys', 'api_keys_hash')`,
    ])
  swap()
  return breakage(swap)
}

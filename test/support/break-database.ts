import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

/** Takes tables of the gateway's database away, as a database that fails does. */
export function breakDatabase(stateDir: string, tables: readonly string[]): { mend: () => void } {
  const rename = (from: (name: string) => string, to: (name: string) => string) => {
    const database = new DatabaseSync(databasePath(stateDir), { timeout: 5_000 })
    for (const table of tables) database.exec(`ALTER TABLE ${from(table)} RENAME TO ${to(table)}`)
    database.close()
  }
  const away = (name: string) => `${name}_away`
  const here = (name: string) => name
  rename(here, away)
  let mended = false
  return {
    mend() {
      if (!mended) rename(away, here)
      mended = true
    },
  }
}

/** Until it is mended, the gateway's database is malformed where it is asked for a key: table and index have each other's pages. */
export function corruptKeys(stateDir: string): { mend: () => void } {
  const swap = () => {
    const database = new DatabaseSync(databasePath(stateDir), { timeout: 5_000, defensive: false })
    const root = (name: string) => `(SELECT rootpage FROM sqlite_schema WHERE name = '${name}')`
    // Of a table that comes and goes other connections see that there is another schema.
    for (const statement of [
      'PRAGMA writable_schema = 1',
      'BEGIN IMMEDIATE',
      'CREATE TABLE passing (id)',
      'DROP TABLE passing',
      `UPDATE sqlite_schema SET rootpage = ${root('api_keys')} + ${root('api_keys_hash')} - rootpage
        WHERE name IN ('api_keys', 'api_keys_hash')`,
      'COMMIT',
    ])
      database.exec(statement)
    database.close()
  }
  swap()
  let mended = false
  return {
    mend() {
      if (!mended) swap()
      mended = true
    },
  }
}

/** The gateway's database, of its state folder. */
export function databasePath(stateDir: string): string {
  const dir = join(stateDir, 'v3', 'd1', 'miniflare-D1DatabaseObject')
  const name = readdirSync(dir).find((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
  if (!name) throw new Error(`there is no database in ${dir}`)
  return join(dir, name)
}

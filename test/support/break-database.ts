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

/** The gateway's database, of its state folder. */
export function databasePath(stateDir: string): string {
  const dir = join(stateDir, 'v3', 'd1', 'miniflare-D1DatabaseObject')
  const name = readdirSync(dir).find((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
  if (!name) throw new Error(`there is no database in ${dir}`)
  return join(dir, name)
}

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const FOLDERS = { database: 'd1/miniflare-D1DatabaseObject', fleet: 'do/copal-Fleet' }

/** Opens the SQLite file of the gateway's database or of its Fleet object, while the gateway has it open too. */
export function withSqlite<T>(
  stateDir: string,
  of: keyof typeof FOLDERS,
  use: (database: DatabaseSync) => T,
): T {
  const dir = join(stateDir, 'v3', FOLDERS[of])
  const name = readdirSync(dir).find((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
  if (!name) throw new Error(`there is no database in ${dir}`)
  const options = { timeout: 60_000, enableForeignKeyConstraints: false, defensive: false }
  const database = new DatabaseSync(join(dir, name), options)
  try {
    return use(database)
  } finally {
    database.close()
  }
}

/** Rewrites the schema table directly, in one transaction. */
export function rewriteSchema(
  stateDir: string,
  of: keyof typeof FOLDERS,
  statements: readonly string[],
): void {
  withSqlite(stateDir, of, (database) => {
    for (const statement of ['PRAGMA writable_schema = 1', 'BEGIN IMMEDIATE', ...statements, 'COMMIT'])
      database.exec(statement)
  })
}

/** A fault that the test, or its cleanup, repairs. */
export interface Breakage {
  readonly repair: () => void
}

/** Creates a {@link Breakage}. `repair` runs once, also when it is called again. */
export function breakage(repair: () => void): Breakage {
  let repaired = false
  return {
    repair() {
      if (!repaired) repair()
      repaired = true
    },
  }
}

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

const FOLDERS = { database: 'd1/miniflare-D1DatabaseObject', fleet: 'do/copal-Fleet' }

/** Uses the file of the gateway's database, or of its Fleet object, beside the gateway that has it open. */
export function withSqlite<T>(
  stateDir: string,
  of: keyof typeof FOLDERS,
  use: (database: DatabaseSync) => T,
): T {
  const dir = join(stateDir, 'v3', FOLDERS[of])
  const name = readdirSync(dir).find((file) => /^[0-9a-f]{64}\.sqlite$/.test(file))
  if (!name) throw new Error(`there is no database in ${dir}`)
  const options = { timeout: 5_000, enableForeignKeyConstraints: false, defensive: false }
  const database = new DatabaseSync(join(dir, name), options)
  try {
    return use(database)
  } finally {
    database.close()
  }
}

/** Changes what tables are, behind SQLite's back, together or not at all. */
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

/** What is broken, to be mended once, by the test or after it. */
export interface Broken {
  readonly mend: () => void
}

/** @param mend is run once, however often it is asked for */
export function broken(mend: () => void): Broken {
  let mended = false
  return {
    mend() {
      if (!mended) mend()
      mended = true
    },
  }
}

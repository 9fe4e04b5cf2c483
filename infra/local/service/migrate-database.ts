/**
 * A process that migrates the local D1 database of a home with one workerd, while Wrangler starts one for every migration. It
 * records the migrations that it has applied as Wrangler does, so that either can go on where the other stopped.
 *
 * Its argument is {@link DatabaseToMigrate} as JSON.
 */
import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { convertV4MiniflareOptions, Miniflare } from 'miniflare'
import { unstable_getMiniflareWorkerOptions as optionsOf, unstable_splitSqlQuery as splitSql } from 'wrangler'
import { WORKER_NAME } from './worker-options.ts'

/** A database and the checkout whose migrations it gets. */
export interface DatabaseToMigrate {
  root: string
  /** The folder of databases and files. */
  stateDir: string
}

const RECORDS = 'd1_migrations'

const { root, stateDir } = JSON.parse(process.argv[2] ?? '{}') as DatabaseToMigrate
const { d1Databases } = optionsOf(join(root, 'wrangler.toml')).workerOptions as {
  d1Databases: Record<string, { id: string }>
}
const gateway = new Miniflare(
  convertV4MiniflareOptions({
    name: WORKER_NAME,
    modules: [{ type: 'ESModule', path: 'index.js', contents: 'export default {}' }],
    d1Databases,
    resourcePersistencePath: stateDir,
    cf: false,
  }),
)
try {
  await migrate()
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n`)
  process.exitCode = 1
} finally {
  await gateway.dispose()
}

/** Applies the migrations that the database does not have, each in a transaction with its record. */
async function migrate(): Promise<void> {
  const database = await gateway.getD1Database('DB')
  await database
    .prepare(
      `CREATE TABLE IF NOT EXISTS ${RECORDS}(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE,
        applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL
      )`,
    )
    .run()
  const { results } = await database.prepare(`SELECT name FROM ${RECORDS}`).all<{ name: string }>()
  const applied = new Set(results.map(({ name }) => name))
  for (const path of globSync(join(root, 'migrations', '*.sql')).toSorted()) {
    const name = basename(path)
    if (applied.has(name)) continue
    const statements = splitSql(readFileSync(path, 'utf8')).map((statement) => database.prepare(statement))
    const record = database.prepare(`INSERT INTO ${RECORDS} (name) VALUES (?)`).bind(name)
    try {
      await database.batch([...statements, record])
    } catch (error) {
      throw new Error(`The migration ${name} failed; those before it are applied: ${messageOf(error)}`, {
        cause: error,
      })
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

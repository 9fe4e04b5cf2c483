import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Miniflare } from 'miniflare'

/** Makes the schema of a checkout in the new database of a Worker, and returns the database. */
export async function applyMigrations(worker: Miniflare, root: string) {
  const dir = join(root, 'migrations')
  const statements = readdirSync(dir)
    .filter((name) => name.endsWith('.sql'))
    .toSorted()
    .flatMap((name) => readFileSync(join(dir, name), 'utf8').split('--> statement-breakpoint'))
    .filter((statement) => statement.trim() !== '')
  const database = await worker.getD1Database('DB')
  await database.batch(statements.map((statement) => database.prepare(statement)))
  return database
}

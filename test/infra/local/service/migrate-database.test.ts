import { cpSync, existsSync, globSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { applyMigrations } from '../../../../infra/local/service/apply-migrations.ts'
import { openHome } from '../../../../infra/local/service/home.ts'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { copyMigratedState } from '../../../support/processes/migrated-state.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('a migration that fails is named and leaves nothing of itself, and the next start goes on from there', async () => {
  const root = temporaryDir()
  for (const path of ['wrangler.toml', 'migrations'])
    cpSync(join(ROOT, path), join(root, path), { recursive: true })
  const home = openHome(temporaryDir())
  const last =
    globSync('*.sql', { cwd: join(root, 'migrations') })
      .toSorted()
      .at(-1) ?? ''
  const bad = join(root, 'migrations', '9998_bad.sql')
  rmSync(join(root, 'migrations', last))
  writeFileSync(bad, 'CREATE TABLE half (id text);\nINSERT INTO nowhere VALUES (1);\n')
  await expect(applyMigrations({ root }, home, new AbortController().signal)).rejects.toThrow(
    /The database migrations failed\.[\s\S]*The migration 9998_bad\.sql failed; those before it are applied/,
  )
  expect(tablesOf(home.stateDir)).not.toContain('half')
  expect(tablesOf(home.stateDir)).toContain('masks')

  rmSync(bad)
  cpSync(join(ROOT, 'migrations', last), join(root, 'migrations', last))
  writeFileSync(join(root, 'migrations', '9999_good.sql'), 'CREATE TABLE added (id text);\n')
  await applyMigrations({ root }, home, new AbortController().signal)
  expect(tablesOf(home.stateDir)).toContain('added')
  const names = globSync('*.sql', { cwd: join(root, 'migrations') }).toSorted()
  expect(textsOf(home.stateDir, 'SELECT name FROM d1_migrations ORDER BY id')).toEqual(names)
})

test('a database whose file or one of whose folders was deleted is migrated again, and the stamp of an older version is deleted', async () => {
  const home = openHome(temporaryDir())
  const migrate = () => applyMigrations({ root: ROOT }, home, new AbortController().signal)
  await copyMigratedState({ root: ROOT }, home)
  const old = join(home.stateDir, 'migrations.sha256')
  writeFileSync(old, '')
  for (const deleted of [databaseOf(home.stateDir), 'v3/d1']) {
    rmSync(join(home.stateDir, deleted), { recursive: true })
    await migrate()
    expect(tablesOf(home.stateDir)).toContain('masks')
  }
  expect(existsSync(old)).toBe(false)
})

function tablesOf(stateDir: string): string[] {
  return textsOf(stateDir, "SELECT name FROM sqlite_schema WHERE type = 'table'")
}

/** Returns the names that a query on the gateway's database returns. */
function textsOf(stateDir: string, query: string): string[] {
  const database = new DatabaseSync(join(stateDir, databaseOf(stateDir)))
  try {
    return database
      .prepare(query)
      .all()
      .map(({ name }) => String(name))
  } finally {
    database.close()
  }
}

function databaseOf(stateDir: string): string {
  const [path = ''] = globSync('v3/d1/*/*.sqlite', { cwd: stateDir }).filter(
    (file) => !file.includes('metadata'),
  )
  return path
}

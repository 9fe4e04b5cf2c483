import { copyFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, onTestFinished, test, vi } from 'vitest'
import { wipeDeletedTexts } from '../../../../infra/local/service/wipe-deleted.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Makes the database of a reservoir of a local service, and returns its path. */
function reservoir(stateDir: string, name: string, ...statements: string[]): string {
  const folder = join(stateDir, 'v3', 'do', 'copal-Reservoir')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${name}.sqlite`)
  change(path, 'CREATE TABLE texts (text TEXT)', ...statements)
  return path
}

function change(path: string, ...statements: string[]): void {
  const database = new DatabaseSync(path)
  for (const statement of statements) database.exec(statement)
  database.close()
}

/** Wipes the databases, and returns the lines about what was not possible. */
async function wipe(stateDir: string): Promise<string[]> {
  const lines: string[] = []
  await wipeDeletedTexts({ stateDir }, (line) => lines.push(line))
  return lines
}

const SECRETS = "INSERT INTO texts VALUES ('secret 1'), ('kept'), ('secret 2')"
const DELETION = "DELETE FROM texts WHERE text LIKE 'secret%'"

test('the next start leaves no bytes of deleted texts in the files of reservoirs, and keeps the others', async () => {
  const stateDir = temporaryDir()
  const long = `INSERT INTO texts VALUES ('${'secret '.repeat(2_000)}'), ('kept')`
  const freed = reservoir(stateDir, 'a', long, DELETION)
  // Short texts free no page.
  const within = reservoir(stateDir, 'b', SECRETS, DELETION)
  const whole = [freed, within]
  for (const path of whole) expect(readFileSync(path, 'latin1')).toContain('secret')

  expect(await wipe(stateDir)).toEqual([])

  for (const path of whole) {
    expect(readFileSync(path, 'latin1')).not.toContain('secret')
    const database = new DatabaseSync(path)
    expect(database.prepare('SELECT text FROM texts').all()).toEqual([{ text: 'kept' }])
    database.close()
  }
})

test('the log of a database whose service was killed goes as well, also where the database itself did not change', async () => {
  const stateDir = temporaryDir()
  const path = reservoir(stateDir, 'a', 'PRAGMA journal_mode = WAL')
  await wipe(stateDir)
  const killed = join(temporaryDir(), 'killed.sqlite')
  copyFileSync(path, killed)
  const database = new DatabaseSync(killed)
  for (const statement of [SECRETS, DELETION]) database.exec(statement)
  copyFileSync(`${killed}-wal`, `${path}-wal`)
  database.close()
  expect(readFileSync(`${path}-wal`, 'latin1')).toContain('secret')

  await wipe(stateDir)

  expect(existsSync(`${path}-wal`)).toBe(false)
  const content = readFileSync(path, 'latin1')
  expect([content.includes('kept'), content.includes('secret')]).toEqual([true, false])
})

test('only files that have changed since are rewritten, and every one that has', async () => {
  const stateDir = temporaryDir()
  const [still, changed] = [reservoir(stateDir, 'a', SECRETS), reservoir(stateDir, 'b', SECRETS)]
  await wipe(stateDir)
  const { mtimeMs } = statSync(still)
  change(changed, DELETION)
  expect(readFileSync(changed, 'latin1')).toContain('secret')
  await wipe(stateDir)
  expect(readFileSync(changed, 'latin1')).not.toContain('secret')
  expect(statSync(still).mtimeMs).toBe(mtimeMs)
})

test('a line says which files could not be rewritten and why, at each start until they are', async () => {
  const stateDir = temporaryDir()
  const whole = reservoir(stateDir, 'a', SECRETS, DELETION)
  const damaged = join(stateDir, 'v3', 'do', 'copal-Reservoir', 'b.sqlite')
  writeFileSync(damaged, 'no database')
  const line =
    /^Bytes of deleted texts may still be in 1 of 2 files of .*copal-Reservoir,.*: file is not a database$/
  expect(await wipe(stateDir)).toEqual([expect.stringMatching(line)])
  expect(await wipe(stateDir)).toEqual([expect.stringMatching(line)])
  expect(readFileSync(whole, 'latin1')).not.toContain('secret')
  expect(readFileSync(damaged, 'utf8')).toBe('no database')
})

test('a Node without SQLite says that it cannot rewrite the files', async () => {
  const stateDir = temporaryDir()
  reservoir(stateDir, 'a', SECRETS, DELETION)
  vi.doMock('node:sqlite', () => {
    throw new Error('No such built-in module')
  })
  onTestFinished(() => {
    vi.doUnmock('node:sqlite')
  })
  expect(await wipe(stateDir)).toEqual([expect.stringContaining('this version of Node has no SQLite')])
})

test('a service that has never stored a text starts', async () => {
  expect(await wipe(temporaryDir())).toEqual([])
})

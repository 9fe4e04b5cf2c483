import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, test } from 'vitest'
import { wipeDeletedTexts } from '../../../../infra/local/service/wipe-deleted.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

/** Makes the database of a reservoir of a local service, and returns its path. */
function reservoir(stateDir: string, name: string, ...statements: string[]): string {
  const folder = join(stateDir, 'v3', 'do', 'copal-Reservoir')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${name}.sqlite`)
  const database = new DatabaseSync(path)
  for (const statement of ['CREATE TABLE texts (text TEXT)', ...statements]) database.exec(statement)
  database.close()
  return path
}

test('the next start leaves no bytes of deleted texts in the files of reservoirs, and keeps the others', async () => {
  const stateDir = temporaryDir()
  const long = `INSERT INTO texts VALUES ('${'secret '.repeat(2_000)}'), ('kept')`
  const freed = reservoir(stateDir, 'a', long, "DELETE FROM texts WHERE text <> 'kept'")
  const record = 'CREATE TABLE deletions (filter TEXT, at_ms INTEGER)'
  const short = "INSERT INTO texts VALUES ('secret'), ('kept')"
  const deleted = "DELETE FROM texts WHERE text = 'secret'"
  const within = reservoir(stateDir, 'b', record, short, deleted, "INSERT INTO deletions VALUES ('{}', 1)")
  const damaged = join(stateDir, 'v3', 'do', 'copal-Reservoir', 'c.sqlite')
  writeFileSync(damaged, 'no database')
  const whole = [freed, within]
  for (const path of whole) expect(readFileSync(path, 'latin1')).toContain('secret')

  await wipeDeletedTexts({ stateDir })

  for (const path of whole) {
    expect(readFileSync(path, 'latin1')).not.toContain('secret')
    const database = new DatabaseSync(path)
    expect(database.prepare('SELECT text FROM texts').all()).toEqual([{ text: 'kept' }])
    database.close()
  }
  expect(readFileSync(damaged, 'utf8')).toBe('no database')
})

test('a service that has never stored a text starts', async () => {
  await expect(wipeDeletedTexts({ stateDir: temporaryDir() })).resolves.toBeUndefined()
})

import { readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openNodeState } from '../../../../gpu-node/src/serving/control/node-state.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const DESIRED = { active: { version: 2, sha256: 'a'.repeat(64) }, previous: null }

function setup() {
  const home = temporaryDir()
  const log = memoryLog()
  return { home, log, open: () => openNodeState({ home, log }) }
}

test('a node keeps its desired state', async () => {
  const { open, home } = setup()
  const first = await open()
  expect(first.current()).toEqual({ model: null, desired: { active: null, previous: null } })
  await first.save({ model: 'tiny', desired: DESIRED })
  expect((await open()).current()).toEqual({ model: 'tiny', desired: DESIRED })
  expect(await readdir(home)).toEqual(['node-state.json'])
})

test('the last of several overlapping saves wins', async () => {
  const { open } = setup()
  const file = await open()
  const saves = [1, 2, 3].map((version) =>
    file.save({
      model: 'tiny',
      desired: { active: { version, sha256: 'b'.repeat(64) }, previous: null },
    }),
  )
  expect(file.current().desired.active?.version).toBe(3)
  await Promise.all(saves)
  expect((await open()).current().desired.active?.version).toBe(3)
})

test('a damaged file is set aside, logged, and replaced by an empty state', async () => {
  const { open, home, log } = setup()
  await writeFile(join(home, 'node-state.json'), '{"model": "tiny-7", "desi')
  expect((await open()).current().model).toBeNull()
  expect(log.lines.join('\n')).toMatch(/node state is damaged/)
  expect(await readFile(join(home, 'node-state.json.damaged'), 'utf8')).toContain('tiny-7')
})

test('a file that cannot be read fails the start and is kept', async () => {
  const { open, home } = setup()
  const path = join(home, 'node-state.json')
  await symlink(path, path)
  await expect(open()).rejects.toThrow(`${path} cannot be read`)
  expect(await readlink(path)).toBe(path)
})

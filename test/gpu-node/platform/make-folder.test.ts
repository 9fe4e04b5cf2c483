import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openLabCache } from '../../../gpu-node/lab/run/lab-cache.ts'
import { writeAtomically } from '../../../gpu-node/src/platform/atomic-file.ts'
import { makeFolder, PRIVATE } from '../../../gpu-node/src/platform/make-folder.ts'
import { createScratch } from '../../../gpu-node/src/platform/scratch.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const modeOf = (path: string) => statSync(path).mode & 0o777

test('a private folder is closed to others from the start, its parents and an existing folder are as before', () => {
  const parent = join(temporaryDir(), 'parent')
  const path = join(parent, 'home')
  expect(makeFolder(path, PRIVATE)).toBe(true)
  expect(modeOf(path)).toBe(0o700)
  expect(modeOf(parent)).toBe(0o777 & ~process.umask())
  expect(makeFolder(parent, PRIVATE)).toBe(false)
  expect(modeOf(parent)).toBe(0o777 & ~process.umask())
})

test.skipIf(!existsSync('/proc'))(
  'what is written below a place where no folder can be created fails at once',
  async () => {
    expect(() => makeFolder('/proc/none/deep')).toThrow('ENOENT')
    const dir = '/proc/none/deep'
    for (const written of [writeAtomically(join(dir, 'file'), ''), openLabCache(dir), createScratch(dir)])
      await expect(written).rejects.toThrow('ENOENT')
  },
)

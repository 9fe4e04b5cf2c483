import { createHash } from 'node:crypto'
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fingerprintFile, sha256File } from '../../../gpu-node/src/platform/file-digest.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')

/** Counts how often a file is read. */
async function fingerprint(path: string, cacheDir: string) {
  let reads = 0
  const sum = await fingerprintFile(path, cacheDir, { onBytes: () => reads++ })
  return { sum, reads }
}

test('a file is hashed once, and again after it changed', async () => {
  const cacheDir = temporaryDir()
  const path = join(temporaryDir(), 'weights')
  await writeFile(path, 'one')
  expect(await fingerprint(path, cacheDir)).toEqual({ sum: sha256('one'), reads: 1 })
  expect(await fingerprint(path, cacheDir)).toEqual({ sum: sha256('one'), reads: 0 })
  await writeFile(path, 'two')
  await utimes(path, 1, 1)
  expect(await fingerprint(path, cacheDir)).toEqual({ sum: sha256('two'), reads: 1 })
})

test('a damaged stored hash is ignored', async () => {
  const cacheDir = temporaryDir()
  const path = join(temporaryDir(), 'weights')
  await writeFile(path, 'one')
  await fingerprint(path, cacheDir)
  const [record] = await readdir(join(cacheDir, 'fingerprints'))
  await writeFile(join(cacheDir, 'fingerprints', record!), '{"state":7')
  expect(await fingerprint(path, cacheDir)).toEqual({ sum: sha256('one'), reads: 1 })
})

test('hashing can be aborted', async () => {
  const path = join(temporaryDir(), 'weights')
  await writeFile(path, 'one')
  await expect(sha256File(path, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i)
})

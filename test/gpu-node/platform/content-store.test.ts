import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { createContentStore } from '../../../gpu-node/src/platform/content-store.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const BYTES = new TextEncoder().encode('some content')
const SHA256 = createHash('sha256').update(BYTES).digest('hex')

test('a caller that aborts a shared download does not fail the other callers', async () => {
  let fetches = 0
  const store = createContentStore({
    dir: temporaryDir(),
    extension: '.txt',
    maxBytes: 100,
    mismatch: () => new AppError('mask_invalid', 'damaged'),
    async fetch(_sha256, _maxBytes, signal) {
      fetches += 1
      return (async function* () {
        yield BYTES.subarray(0, 4)
        // The first download does not continue by itself.
        if (fetches === 1) await sleep(600_000, undefined, { signal, ref: false })
        yield BYTES.subarray(4)
      })()
    },
  })
  const impatient = new AbortController()
  const first = store.ensure(SHA256, impatient.signal)
  const second = store.ensure(SHA256)
  impatient.abort(new Error('gave up'))
  await expect(first).rejects.toThrow(/aborted/)
  expect(new Uint8Array(await readFile(await second))).toEqual(BYTES)
  expect(fetches).toBe(2)
})

test('a caller that aborts does not wait for the download of another one', async () => {
  const { promise: rest, resolve: finish } = Promise.withResolvers<void>()
  const store = createContentStore({
    dir: temporaryDir(),
    extension: '.txt',
    maxBytes: 100,
    mismatch: () => new AppError('mask_invalid', 'damaged'),
    fetch: async () =>
      (async function* () {
        yield BYTES.subarray(0, 4)
        await rest
        yield BYTES.subarray(4)
      })(),
  })
  const impatient = new AbortController()
  const first = store.ensure(SHA256)
  const second = store.ensure(SHA256, impatient.signal)
  impatient.abort()
  await expect(second).rejects.toMatchObject({ code: 'client_closed_request' })
  finish()
  expect(new Uint8Array(await readFile(await first))).toEqual(BYTES)
})

test('the verification of a large file ends when its caller aborts', async () => {
  const store = createContentStore({
    dir: temporaryDir(),
    extension: '.txt',
    maxBytes: 100,
    mismatch: () => new AppError('mask_invalid', 'damaged'),
    fetch: () => Promise.reject(new Error('nothing is fetched')),
  })
  const { sha256, path } = await store.put(new Uint8Array(4 << 20))
  const impatient = new AbortController()
  const verified = store.ensure(sha256, impatient.signal)
  impatient.abort(new Error('gave up'))
  await expect(verified).rejects.toThrow('gave up')
  expect(await store.ensure(sha256)).toBe(path)
})

test('a file that is removed while it is looked for is fetched, or written again', async () => {
  let fetches = 0
  const store = createContentStore({
    dir: temporaryDir(),
    extension: '.txt',
    maxBytes: 100,
    mismatch: () => new AppError('mask_invalid', 'damaged'),
    async fetch() {
      fetches += 1
      return (async function* () {
        yield BYTES
      })()
    },
  })
  const { path } = await store.put(BYTES)
  const ensured = store.ensure(SHA256)
  rmSync(path)
  expect(await ensured).toBe(path)
  expect(fetches).toBe(1)
  const written = store.put(BYTES)
  rmSync(path)
  await written
  expect(new Uint8Array(await readFile(path))).toEqual(BYTES)
})

test('a full disk is an error that names the folder and what helps', async () => {
  const dir = temporaryDir()
  const store = createContentStore({
    dir,
    extension: '.txt',
    maxBytes: 100,
    mismatch: () => new AppError('mask_invalid', 'damaged'),
    // Fails where the write of a chunk would.
    fetch: async () =>
      (async function* () {
        yield BYTES.subarray(0, 4)
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
      })(),
  })
  await expect(store.ensure(SHA256)).rejects.toThrow(
    `No disk space left in ${dir} for a file. Free some, or move COPAL_HOME to a larger disk.`,
  )
  expect(await readdir(dir)).toEqual([])
})

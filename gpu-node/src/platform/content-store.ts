import { createHash } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { AppError } from '@copal/shared/errors.ts'
import { writeAtomically } from './atomic-file.ts'
import { isErrno } from './errno.ts'
import { sha256File } from './file-digest.ts'
import { explainFullDisk } from './full-disk.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Files of one directory, each named by the SHA-256 of its content and fetched when missing. */
export interface ContentStore {
  readonly dir: string
  /** Path of the file with that hash, whether or not it exists yet. */
  pathOf(sha256: string): string
  /**
   * Returns the path of the file after verifying its hash. Fetches it when it is missing or was changed on disk. Calls for
   * the same hash share one fetch.
   *
   * @param bytes its size; up to `maxBytes` if it is not known
   * @throws AppError `not_found`, or retryable when the source is away; what `mismatch` gives for wrong bytes; an error that
   * names the folder when its disk is full
   */
  ensure(sha256: string, signal?: AbortSignal, bytes?: number): Promise<string>
  /** Adds bytes that were made on this node. */
  put(bytes: Uint8Array): Promise<{ sha256: string; path: string }>
  /** Removes half-written files of an interrupted process. Call it before anything is written. */
  sweep(): Promise<void>
}

/** Parts of a {@link ContentStore}. */
export interface ContentStoreDeps {
  dir: string
  /** File extension with its dot. */
  extension: string
  /** Largest size of a file. */
  maxBytes: number
  /** Returns the bytes of a file as they arrive; fails when there are more than `maxBytes`. */
  fetch(sha256: string, maxBytes: number, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  /** Creates the error for fetched bytes whose hash differs from the requested one. */
  mismatch(sha256: string, actual: string): AppError
  /** Called when a file on disk has another content than its name says, before it is fetched again. */
  onDamaged?: (path: string) => void
}

/** Creates a content store. The directory is created when first needed. */
export function createContentStore(deps: ContentStoreDeps): ContentStore {
  const fetching = new Map<string, { path: Promise<string>; signal: AbortSignal | undefined }>()
  const isWhole = (name: string) => /^[0-9a-f]{64}\./.test(name) && name.slice(64) === deps.extension
  const pathOf = (sha256: string) => join(deps.dir, `${sha256}${deps.extension}`)

  /** Reads the file once, which may be removed by others at any time. */
  async function check(sha256: string, signal?: AbortSignal): Promise<'intact' | 'damaged' | 'missing'> {
    try {
      return (await sha256File(pathOf(sha256), { signal })) === sha256 ? 'intact' : 'damaged'
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return 'missing'
      throw error
    }
  }

  const write: typeof writeAtomically = (path, content) =>
    writeAtomically(path, content).catch((error: unknown) => {
      throw explainFullDisk(error, deps.dir, 'for a file', 'move COPAL_HOME to a larger disk')
    })

  async function fetchFile(sha256: string, maxBytes: number, signal?: AbortSignal): Promise<string> {
    const path = pathOf(sha256)
    const found = await check(sha256, signal)
    if (found === 'intact') return path
    if (found === 'damaged') deps.onDamaged?.(path)
    await write(path, verified(sha256, await deps.fetch(sha256, maxBytes, signal)))
    return path
  }

  async function* verified(sha256: string, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const hash = createHash('sha256')
    for await (const chunk of chunks) {
      hash.update(chunk)
      yield chunk
    }
    const actual = hash.digest('hex')
    if (actual !== sha256) throw deps.mismatch(sha256, actual)
  }

  async function ensure(sha256: string, signal?: AbortSignal, bytes = deps.maxBytes): Promise<string> {
    const running = fetching.get(sha256)
    if (!running) {
      const path = fetchFile(sha256, bytes, signal).finally(() => fetching.delete(sha256))
      fetching.set(sha256, { path, signal })
      return path
    }
    try {
      return await unlessAborted(running.path, signal)
    } catch (error) {
      // The caller that started the fetch gave up; this one has not.
      if (running.signal?.aborted && !signal?.aborted) return ensure(sha256, signal, bytes)
      throw error
    }
  }

  return {
    dir: deps.dir,
    pathOf,
    ensure,
    async put(bytes) {
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      const path = pathOf(sha256)
      if ((await check(sha256)) !== 'intact') await write(path, bytes)
      return { sha256, path }
    },
    async sweep() {
      const names = await readdir(deps.dir).catch(() => [])
      for (const name of names) if (!isWhole(name)) await rm(join(deps.dir, name), { force: true })
    },
  }
}

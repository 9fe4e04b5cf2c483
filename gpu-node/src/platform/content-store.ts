import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { explainFullDisk } from './full-disk.ts'
import { isErrno } from './scratch.ts'
import { makeFolder } from './make-folder.ts'
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
   * @throws AppError `not_found`, or retryable when the source is away; what `mismatch` gives for wrong bytes; an error that
   * names the folder when its disk is full
   */
  ensure(sha256: string, signal?: AbortSignal): Promise<string>
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
  fetch(sha256: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>>
  /** Creates the error for fetched bytes whose hash differs from the requested one. */
  mismatch(sha256: string, actual: string): AppError
  /** Called when a file on disk has another content than its name says, before it is fetched again. */
  onDamaged?: (path: string) => void
}

const PARTIAL = '.partial'

/** Creates a content store. The directory is created when first needed. */
export function createContentStore(deps: ContentStoreDeps): ContentStore {
  const fetching = new Map<string, { path: Promise<string>; signal: AbortSignal | undefined }>()
  const isWhole = (name: string) => /^[0-9a-f]{64}\./.test(name) && name.slice(64) === deps.extension
  const pathOf = (sha256: string) => join(deps.dir, `${sha256}${deps.extension}`)

  const write: typeof writeAtomically = (path, content) =>
    writeAtomically(path, content).catch((error: unknown) => {
      throw explainFullDisk(error, deps.dir, 'for a file', 'move COPAL_HOME to a larger disk')
    })

  async function fetchFile(sha256: string, signal?: AbortSignal): Promise<string> {
    const path = pathOf(sha256)
    const found = await hashFile(path, signal)
    if (found === sha256) return path
    if (found !== undefined) deps.onDamaged?.(path)
    const chunks = await deps.fetch(sha256, signal)
    const hash = createHash('sha256')
    await write(path, async function* () {
      for await (const chunk of chunks) {
        hash.update(chunk)
        yield chunk
      }
      const actual = hash.digest('hex')
      if (actual !== sha256) throw deps.mismatch(sha256, actual)
    })
    return path
  }

  async function ensure(sha256: string, signal?: AbortSignal): Promise<string> {
    const running = fetching.get(sha256)
    if (!running) {
      const path = fetchFile(sha256, signal).finally(() => fetching.delete(sha256))
      fetching.set(sha256, { path, signal })
      return path
    }
    try {
      return await unlessAborted(running.path, signal)
    } catch (error) {
      // The caller that started the fetch gave up; this one has not.
      if (running.signal?.aborted && !signal?.aborted) return ensure(sha256, signal)
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
      if ((await hashFile(path)) !== sha256) {
        await write(path, async function* () {
          yield bytes
        })
      }
      return { sha256, path }
    },
    async sweep() {
      const names = await readdir(deps.dir).catch(() => [])
      for (const name of names) if (!isWhole(name)) await rm(join(deps.dir, name), { force: true })
    },
  }
}

/**
 * Returns the SHA-256 of a file in lower-case hex, read in pieces; `undefined` when there is no such file.
 *
 * @throws the reason of `signal`
 */
async function hashFile(path: string, signal?: AbortSignal): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined)
  if (!found?.isFile()) return undefined
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    signal?.throwIfAborted()
    hash.update(chunk as Buffer)
  }
  return hash.digest('hex')
}

/**
 * Returns the text of a file in the node's home; undefined when there is none.
 *
 * @throws AppError `internal_error` when there is one that cannot be read: it is not missing, and must not be replaced
 */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return undefined
    throw new AppError(
      'internal_error',
      `${path} cannot be read. It is left as it is; mend its disk or move it away`,
      {
        cause,
      },
    )
  }
}

/**
 * Writes a file atomically, also against crashes: a temporary file beside it is written, flushed and renamed. An error of
 * `content` passes through and leaves no file behind.
 */
export async function writeAtomically(path: string, content: () => AsyncIterable<Uint8Array>): Promise<void> {
  makeFolder(dirname(path))
  const partial = `${path}.${randomUUID()}${PARTIAL}`
  try {
    const file = await open(partial, 'wx')
    try {
      for await (const chunk of content()) await writeFully(file, chunk)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

async function writeFully(file: Awaited<ReturnType<typeof open>>, chunk: Uint8Array): Promise<void> {
  let rest = chunk
  while (rest.length) {
    const { bytesWritten } = await file.write(rest)
    rest = rest.subarray(bytesWritten)
  }
}

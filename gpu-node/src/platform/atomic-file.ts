import { randomUUID } from 'node:crypto'
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from './errno.ts'
import { makeFolder } from './make-folder.ts'

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
      { cause },
    )
  }
}

/**
 * Writes a file atomically, also against crashes: a temporary file beside it is written, flushed and renamed. An error of
 * `content` passes through and leaves no file behind.
 */
export async function writeAtomically(
  path: string,
  content: string | Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  makeFolder(dirname(path))
  const partial = `${path}.${randomUUID()}.partial`
  try {
    await writeFile(partial, content, { flag: 'wx', flush: true })
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
}

/** Removes what killed processes left of files that they were writing to a folder. Call it while nothing else writes there. */
export async function removePartials(dir: string): Promise<void> {
  for (const name of await readdir(dir).catch(() => []))
    if (/\.[0-9a-f-]{36}\.partial$/.test(name)) await rm(join(dir, name), { force: true })
}

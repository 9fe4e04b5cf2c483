import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { isErrno } from './errno.ts'
import { makeFolder } from './make-folder.ts'
import { isAlive, startTicks } from './process-identity.ts'

/** Age without a change after which a directory of another host or container counts as abandoned. */
const ABANDONED_AFTER_MS = 3_600_000

/**
 * Creates a directory for unfinished work under `<cacheDir>/tmp`, on the file system of the cache, so that the result
 * moves into place in one rename. Also removes directories that killed processes left behind.
 */
export async function createScratch(cacheDir: string): Promise<string> {
  const parent = join(cacheDir, 'tmp')
  makeFolder(parent)
  await sweep(parent)
  const owner = [hostname(), process.pid, startTicks(process.pid) ?? '']
  const path = join(parent, [...owner, randomUUID()].join('~'))
  await mkdir(path)
  return path
}

/** Removes a scratch directory with its content. Does nothing when it is gone or has been moved. */
export function removeScratch(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true })
}

/**
 * Moves a finished directory to `target` in one step. When another process was first and its directory is intact, that one
 * is kept and `path` stays where it is; a damaged one is moved to `scratch`.
 *
 * @param isWhole checks what is at `target`
 */
export async function publishDirectory(
  path: string,
  target: string,
  scratch: string,
  isWhole: () => Promise<boolean>,
): Promise<void> {
  makeFolder(dirname(target))
  for (;;) {
    try {
      return await rename(path, target)
    } catch (error) {
      if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'EPERM')) throw error
    }
    if (await isWhole()) return
    try {
      await rename(target, join(scratch, `damaged-${randomUUID()}`))
    } catch (error) {
      // Another process that found the same damage has moved it already.
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    // A directory that cannot be removed now is harmless; the next start tries again.
    if (await isAbandoned(parent, name)) await removeScratch(join(parent, name)).catch(() => undefined)
  }
}

async function isAbandoned(parent: string, name: string): Promise<boolean> {
  const [host, pid, began, id] = name.split('~')
  // Process ids are valid on their own host only, and containers may share the cache.
  if (host !== hostname()) return (await lastChangeMs(join(parent, name))) < Date.now() - ABANDONED_AFTER_MS
  if (!isAlive(Number(pid))) return true
  // A container that is started again gives its processes the same ids. Earlier versions did not record the start.
  return id !== undefined && began !== (startTicks(Number(pid)) ?? '')
}

async function lastChangeMs(path: string): Promise<number> {
  try {
    const entries = await readdir(path, { recursive: true })
    const times = await Promise.all(
      [path, ...entries.map((entry) => join(path, entry))].map((file) => stat(file)),
    )
    return Math.max(...times.map(({ mtimeMs }) => mtimeMs))
  } catch {
    // It changed while we looked at it, so it is in use.
    return Date.now()
  }
}

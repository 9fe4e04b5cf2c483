import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { isAlive } from './process-identity.ts'

/** A directory of another host or container is taken for abandoned when nothing in it changed for so long. */
const ABANDONED_AFTER_MS = 3_600_000

/**
 * Makes a directory for unfinished work under `<cacheDir>/tmp`, on the file system of the cache, so
 * that the result moves into place in one rename. What processes that were killed left there is
 * removed on the way.
 */
export async function createScratch(cacheDir: string): Promise<string> {
  const parent = join(cacheDir, 'tmp')
  await mkdir(parent, { recursive: true })
  await sweep(parent)
  const path = join(parent, `${hostname()}~${process.pid}~${randomUUID()}`)
  await mkdir(path)
  return path
}

/** Removes a scratch directory and all in it; fine when it is gone or has been moved. */
export function removeScratch(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true })
}

/**
 * Moves a finished directory to `target` in one step. When a rival was first, its whole one is kept and
 * `path` left as it was; what is there and damaged goes to `scratch`.
 *
 * @param isWhole checks what is at `target`
 */
export async function publishDirectory(
  path: string,
  target: string,
  scratch: string,
  isWhole: () => Promise<boolean>,
): Promise<void> {
  await mkdir(dirname(target), { recursive: true })
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
      // A rival that found the same damage moved it first.
      if (!isErrno(error, 'ENOENT')) throw error
    }
  }
}

/** Whether `error` comes from the operating system with one of these codes. */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

async function sweep(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const [host, pid] = name.split('~')
    // Process ids mean something on their own host only: containers may share the cache.
    const abandoned =
      host === hostname()
        ? !isAlive(Number(pid))
        : (await lastChangeMs(join(parent, name))) < Date.now() - ABANDONED_AFTER_MS
    // What cannot be removed now stands in nobody's way and is tried again at the next start.
    if (abandoned) await removeScratch(join(parent, name)).catch(() => undefined)
  }
}

async function lastChangeMs(path: string): Promise<number> {
  try {
    const entries = await readdir(path, { recursive: true })
    const times = await Promise.all(
      [path, ...entries.map((entry) => join(path, entry))].map((file) => stat(file)),
    )
    return Math.max(...times.map(({ mtimeMs }) => mtimeMs))
  } catch {
    // It changed under our hands, so it is in use.
    return Date.now()
  }
}

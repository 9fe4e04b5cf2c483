import { createHash, randomUUID } from 'node:crypto'
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { isErrno } from './errno.ts'
import { isAlive, startTicks } from './process-identity.ts'

/** A held lock file. */
export interface ProcessLock {
  /** Whether the previous holder was a process that is gone. */
  wasAbandoned: boolean
  /** Removes the file, unless another process holds it by now. */
  release(): void
}

/** The holder of a lock, as its file names it. */
export interface LockHolder {
  /** Host of the pid; pids are valid on their own host only. */
  host: string
  pid: number
  /** Start time, which distinguishes the process from a later one with the same pid. */
  startTicks: string | undefined
}

/** Thrown when another process holds the lock. */
export interface HeldLock<About extends object> {
  holder: LockHolder & About
  /** The holder for a message: `pid 12`; for another host also its name and how to remove the lock. */
  heldBy: string
}

/**
 * Takes the lock at `path`, a file in an existing directory. A lock whose process is gone is taken over. Processes of other
 * hosts cannot be checked, so their locks hold until the file is removed.
 *
 * @param about goes into the file beside host, pid and start, for the process that does not get the lock
 * @returns who else holds it, when another does
 */
export function takeProcessLock<About extends object>(
  path: string,
  about: About,
): ProcessLock | HeldLock<About> {
  const self: LockHolder = { host: hostname(), pid: process.pid, startTicks: startTicks(process.pid) }
  const content = JSON.stringify({ ...self, ...about })
  // Linked into place, so that no process reads a half-written lock.
  const draft = `${path}.${randomUUID()}`
  let wasAbandoned = false
  try {
    // On a full disk this leaves an empty file.
    writeFileSync(draft, content)
    while (!link(draft, path)) {
      const found = read(path)
      if (found === undefined) continue
      const holder = parseHolder(found)
      if (holder && mayRun(holder)) {
        return { holder: holder as LockHolder & About, heldBy: describeHolder(path, holder) }
      }
      const rival = removeAbandoned(path, found, about)
      if (rival) return rival
      wasAbandoned = true
    }
  } finally {
    rmSync(draft, { force: true })
  }
  return {
    wasAbandoned,
    release() {
      if (read(path) === content) rmSync(path, { force: true })
    },
  }
}

/**
 * Removes the lock at `path` if its content still equals `found`. Of several processes that judged it abandoned, one may
 * already hold it again, so checking and removing happen under a second lock that is named after the content.
 *
 * @returns who is removing it at the moment and will hold it
 */
function removeAbandoned<About extends object>(
  path: string,
  found: string,
  about: About,
): HeldLock<About> | undefined {
  const name = createHash('sha256').update(found).digest('hex').slice(0, 16)
  const taken = takeProcessLock(`${path}.${name}`, about)
  if ('holder' in taken) return taken
  try {
    if (read(path) === found) rmSync(path)
  } finally {
    taken.release()
  }
  return undefined
}

function link(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false
    throw error
  }
}

/** Returns the content of a file, or undefined when it does not exist. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}

function mayRun({ host, pid, startTicks: began }: LockHolder): boolean {
  if (host !== hostname()) return true
  return isAlive(pid) && startTicks(pid) === began
}

function describeHolder(path: string, { host, pid }: LockHolder): string {
  if (host === hostname()) return `pid ${pid}`
  return `pid ${pid} on host '${host}' (if it no longer runs there, remove ${path})`
}

/** Parses a lock file; undefined for one that is not valid, such as an empty file after a power loss. */
function parseHolder(text: string): LockHolder | undefined {
  try {
    // Locks written before hosts were recorded belong to this host.
    return { host: hostname(), ...(JSON.parse(text) as Omit<LockHolder, 'host'>) }
  } catch {
    return undefined
  }
}

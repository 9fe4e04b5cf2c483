import { createHash, randomUUID } from 'node:crypto'
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { isErrno } from './scratch.ts'
import { isAlive, startTicks } from './process-identity.ts'

/** A lock file that is held. */
export interface ProcessLock {
  /** A process that is gone had held it before. */
  wasAbandoned: boolean
  /** Removes the file, unless it is another's by now. */
  release(): void
}

/** Who holds a lock: what the file says. */
export interface LockHolder {
  /** Pids mean something on their own host only. */
  host: string
  pid: number
  /** Tells the process from a later one with the same pid. */
  startTicks: string | undefined
}

/** A lock that somebody else holds. */
export interface HeldLock<About extends object> {
  holder: LockHolder & About
  /** The holder for a message: `pid 12`, of another host with its name and how to end that. */
  heldBy: string
}

/**
 * Takes the lock at `path`, a file in a directory that exists. A lock whose process is gone is taken over; whether
 * a process of another host is gone cannot be seen from here, so its lock is held until its file is removed.
 *
 * @param about goes into the file beside host, pid and start, for whoever is refused
 * @returns who else holds it, when another does
 */
export function takeProcessLock<About extends object>(
  path: string,
  about: About,
): ProcessLock | HeldLock<About> {
  const self: LockHolder = { host: hostname(), pid: process.pid, startTicks: startTicks(process.pid) }
  const content = JSON.stringify({ ...self, ...about })
  // Linked into place, so that nobody ever reads a half-written lock.
  const draft = `${path}.${randomUUID()}`
  writeFileSync(draft, content)
  let wasAbandoned = false
  try {
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
 * Removes the lock at `path` if it still says `found`. Of several who judged it abandoned one may already hold it
 * anew; so one looks and removes at a time, under a lock that is named by what was found.
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

/** The content of a file, undefined where there is none. */
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

/** Undefined of what is no lock: a file system that lost its power may leave one empty. */
function parseHolder(text: string): LockHolder | undefined {
  try {
    // Locks of before there was a host are of this one.
    return { host: hostname(), ...(JSON.parse(text) as Omit<LockHolder, 'host'>) }
  } catch {
    return undefined
  }
}

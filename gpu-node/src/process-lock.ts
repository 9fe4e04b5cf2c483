import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isAlive, startTicks } from './process-identity.ts'

/** A lock file that is held. */
export interface ProcessLock {
  /** A process that is gone had held it before. */
  wasAbandoned: boolean
  release(): void
}

/** Who holds a lock: what the file says. */
export interface LockHolder {
  pid: number
  /** Tells the process from a later one with the same pid. */
  startTicks: string | undefined
}

/**
 * Takes the lock at `path`, a file in a directory that exists. A lock whose process is gone is taken over.
 *
 * @param about goes into the file beside pid and start, for whoever is refused
 * @returns who else holds it, when a running process does
 */
export function takeProcessLock<About extends object>(
  path: string,
  about: About,
): ProcessLock | { holder: LockHolder & About } {
  // Linked into place, so that nobody ever reads a half-written lock.
  const draft = `${path}.${process.pid}`
  writeFileSync(draft, JSON.stringify({ pid: process.pid, startTicks: startTicks(process.pid), ...about }))
  let wasAbandoned = false
  try {
    while (!link(draft, path)) {
      const holder = readHolder(path)
      if (holder && holds(holder)) return { holder: holder as LockHolder & About }
      wasAbandoned = true
      rmSync(path, { force: true })
    }
  } finally {
    rmSync(draft, { force: true })
  }
  return { wasAbandoned, release: () => rmSync(path, { force: true }) }
}

function link(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function holds(holder: LockHolder): boolean {
  return isAlive(holder.pid) && startTicks(holder.pid) === holder.startTicks
}

function readHolder(path: string): LockHolder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as LockHolder
  } catch {
    return undefined
  }
}

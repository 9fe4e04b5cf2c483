import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isAlive, startTicks } from '../../gpu-node/src/process-identity.ts'
import { StartError } from './start-error.ts'

/** Holds a COPAL_HOME for one running service. */
export interface HomeLock {
  /** A service that was killed had held it before. */
  wasAbandoned: boolean
  release(): void
}

interface Holder {
  pid: number
  startTicks: string | undefined
  port: number
}

/**
 * Takes the lock of a home.
 *
 * @throws StartError when a running service holds it.
 */
export function takeHomeLock(home: string, port: number): HomeLock {
  const path = join(home, 'running.json')
  // Linked into place, so that nobody ever reads a half-written lock.
  const draft = join(home, `running.${process.pid}`)
  const own: Holder = { pid: process.pid, startTicks: startTicks(process.pid), port }
  writeFileSync(draft, JSON.stringify(own))
  let wasAbandoned = false
  try {
    while (!link(draft, path)) {
      const holder = readHolder(path)
      if (holder && holds(holder)) {
        throw new StartError(
          `copal is already running with this home (${home}): pid ${holder.pid}, port ${holder.port}. ` +
            'Stop it first, or set COPAL_HOME, COPAL_PORT and COPAL_NODE_PORT for a second one.',
        )
      }
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

function holds(holder: Holder): boolean {
  return isAlive(holder.pid) && startTicks(holder.pid) === holder.startTicks
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isErrno } from './errno.ts'

/**
 * Creates a file or a folder for a moment in a folder that exists.
 *
 * @returns false where the system allows none, also to a user who may write, as in `/proc`
 * @throws what the system says when the folder may not be written, or its disk is full
 */
export function canCreate(what: 'file' | 'folder', dir: string): boolean {
  const probe = join(dir, `.write-test-${randomUUID()}`)
  try {
    // With a byte, for which a full disk has no room.
    if (what === 'file') writeFileSync(probe, 'x')
    else mkdirSync(probe)
    return true
  } catch (cause) {
    // The folder exists, so that this error means that it takes nothing new.
    if (isErrno(cause, 'ENOENT')) return false
    throw cause
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
}

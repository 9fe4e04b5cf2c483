import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { makeFolder, PRIVATE } from '../../platform/make-folder.ts'
import { explainFullDisk } from '../../platform/full-disk.ts'
import { takeProcessLock, type ProcessLock } from '../../platform/process-lock.ts'

/**
 * Takes the lock of a node's home, and creates the home if it is missing. Without the lock two nodes would use one id and
 * take each other's jobs.
 *
 * @throws AppError `conflict` that names the process that holds the lock, or `internal_error` when the disk is full
 */
export function takeNodeLock(home: string): ProcessLock {
  makeFolder(home, PRIVATE)
  const taken = takeLock(home)
  if (!('holder' in taken)) return taken
  throw new AppError(
    'conflict',
    `A node already runs with this home (${home}): ${taken.heldBy}. Stop it, or set another COPAL_HOME for this node.`,
  )
}

function takeLock(home: string): ReturnType<typeof takeProcessLock> {
  try {
    return takeProcessLock(join(home, 'node.json'), {})
  } catch (error) {
    throw explainFullDisk(
      error,
      home,
      'for the files of this node',
      'set COPAL_HOME to a folder on a larger disk',
    )
  }
}

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { takeProcessLock, type ProcessLock } from '../../platform/process-lock.ts'

/**
 * Takes the lock of a node's home, which is made where it is missing: two nodes would answer for one id and take
 * each other's jobs.
 *
 * @throws AppError `conflict` that names the process which holds it
 */
export function takeNodeLock(home: string): ProcessLock {
  mkdirSync(home, { recursive: true })
  const taken = takeProcessLock(join(home, 'node.json'), {})
  if (!('holder' in taken)) return taken
  throw new AppError(
    'conflict',
    `A node already runs with this home (${home}): ${taken.heldBy}. Stop it, or give this one another COPAL_HOME.`,
  )
}

import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { takeProcessLock, type ProcessLock } from '@copal/gpu-node/platform/process-lock.ts'

/**
 * Takes the lock of a laboratory's folder, which must exist.
 *
 * @throws AppError `conflict` that names the process which holds it
 */
export function takeFolderLock(dir: string): ProcessLock {
  const taken = takeProcessLock(join(dir, 'running.json'), {})
  if (!('holder' in taken)) return taken
  throw new AppError(
    'conflict',
    `A laboratory already works in ${dir}: ${taken.heldBy}. Wait for it or stop it, or give another --out.`,
  )
}

import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { takeProcessLock, type ProcessLock } from '@copal/gpu-node/platform/process-lock.ts'

/**
 * Takes the lock of a laboratory's folder. The folder must exist.
 *
 * @throws AppError `conflict` naming the process that holds it
 */
export function takeFolderLock(dir: string): ProcessLock {
  const taken = takeProcessLock(join(dir, 'running.json'), {})
  if (!('holder' in taken)) return taken
  throw new AppError(
    'conflict',
    `Another laboratory run is using ${dir}: ${taken.heldBy}. Wait for it, stop it, or choose another --out.`,
  )
}

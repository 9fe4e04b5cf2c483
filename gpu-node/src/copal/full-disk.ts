import { AppError } from '@copal/shared/errors.ts'
import { isFullDisk } from '../model/disk-space.ts'

/** What a full disk means to whoever calibrates; any other error is handed back as it is. */
export function explainFullDisk(error: unknown, dir: string): unknown {
  if (!isFullDisk(error)) return error
  return new AppError(
    'internal_error',
    `No disk space left in ${dir} for the statistics of a calibration. Free some, or move COPAL_HOME to a ` +
      'larger disk: the same calibration then goes on at the block that it could not write.',
    { cause: error },
  )
}

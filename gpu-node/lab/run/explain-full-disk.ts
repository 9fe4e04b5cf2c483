import { AppError } from '@copal/shared/errors.ts'
import { isFullDisk } from '@copal/gpu-node/platform/full-disk.ts'

/**
 * Replaces an error caused by a full disk by one that says what to do; returns any other error unchanged.
 *
 * @param what could not be written, and what is kept
 */
export function explainFullDisk(error: unknown, what = 'the laboratory. Finished work is kept'): unknown {
  if (!isCausedByFullDisk(error)) return error
  const message = `No disk space is left for ${what}. Free some space and run the same command again.`
  return new AppError('internal_error', message, { cause: error })
}

function isCausedByFullDisk(error: unknown): boolean {
  if (!(error instanceof AppError)) return isFullDisk(error)
  // An error from another process carries only its message.
  return isFullDisk(error.cause) || /\b(ENOSPC|EDQUOT)\b/.test(error.message)
}

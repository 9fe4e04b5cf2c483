import { AppError } from '@copal/shared/errors.ts'
import { isFullDisk } from '@copal/gpu-node/platform/full-disk.ts'

/**
 * A full disk, also where the writer has explained it for a service, as a line for people; else the error as it is.
 *
 * @param what found no room, and what is kept of it
 */
export function explainFullDisk(error: unknown, what = 'the laboratory. What is finished is kept'): unknown {
  if (!isCausedByFullDisk(error)) return error
  const message = `No disk space is left for ${what}: free some space and run the same command again.`
  return new AppError('internal_error', message, { cause: error })
}

function isCausedByFullDisk(error: unknown): boolean {
  if (!(error instanceof AppError)) return isFullDisk(error)
  // Of another process's error only the message came through.
  return isFullDisk(error.cause) || /\b(ENOSPC|EDQUOT)\b/.test(error.message)
}

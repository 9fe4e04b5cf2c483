import { AppError } from '@copal/shared/errors.ts'
import { isFullDisk } from '../model/disk-space.ts'

/** A full disk, also where the writer has explained it for a service, as a line for people; else the error as it is. */
export function explainFullDisk(error: unknown): unknown {
  if (!isOfFullDisk(error)) return error
  return new AppError(
    'internal_error',
    'No disk space is left for the laboratory. What is finished is kept: free some space and run the same command again.',
    { cause: error },
  )
}

function isOfFullDisk(error: unknown): boolean {
  if (!(error instanceof AppError)) return isFullDisk(error)
  // Of another process's error only the message came through.
  return isFullDisk(error.cause) || /\b(ENOSPC|EDQUOT)\b/.test(error.message)
}

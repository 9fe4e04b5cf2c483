import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from './errno.ts'

/** Returns whether a write failed because the disk or the user's quota is full. */
export function isFullDisk(error: unknown): boolean {
  return isErrno(error, 'ENOSPC', 'EDQUOT')
}

/** Converts a full-disk error into a message that names the folder and the remedy; returns any other error unchanged. */
export function explainFullDisk(error: unknown, dir: string, purpose: string, advice: string): unknown {
  return isFullDisk(error) ? noSpace(dir, purpose, advice, error) : error
}

/** Describes that `dir` is full. */
export function noSpace(dir: string, purpose: string, advice: string, cause?: unknown): AppError {
  const message = `No disk space left in ${dir} ${purpose}. Free some, or ${advice}.`
  return new AppError('internal_error', message, { cause })
}

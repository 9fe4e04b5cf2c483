import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from './scratch.ts'

/** Whether the system refused to write because nothing more fits, on the disk or in the user's share of it. */
export function isFullDisk(error: unknown): boolean {
  return isErrno(error, 'ENOSPC', 'EDQUOT')
}

/** A full disk told by what found no room and what helps; any other error is handed back as it is. */
export function explainFullDisk(error: unknown, dir: string, purpose: string, advice: string): unknown {
  return isFullDisk(error) ? noSpace(dir, purpose, advice, error) : error
}

/** That nothing more fits into `dir`. */
export function noSpace(dir: string, purpose: string, advice: string, cause?: unknown): AppError {
  const message = `No disk space left in ${dir} ${purpose}. Free some, or ${advice}.`
  return new AppError('internal_error', message, { cause })
}

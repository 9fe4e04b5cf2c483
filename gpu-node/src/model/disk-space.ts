import { mkdir, statfs } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'
import { isErrno } from './scratch.ts'

/** Bytes that an unprivileged user may still write where `dir` lies. */
async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir)
  return bavail * bsize
}

/**
 * Makes sure that `dir` exists and has room before anything is written.
 *
 * @throws AppError `internal_error` with both sizes
 */
export async function requireSpace(
  dir: string,
  neededBytes: number,
  purpose: string,
  free: (dir: string) => Promise<number> = freeBytes,
): Promise<void> {
  await mkdir(dir, { recursive: true })
  const available = await free(dir)
  if (available < neededBytes) throw noSpace(dir, purpose, neededBytes, available)
}

/** Whether the system refused to write because nothing more fits, on the disk or in the user's share of it. */
export function isFullDisk(error: unknown): boolean {
  return isErrno(error, 'ENOSPC', 'EDQUOT')
}

/** The same failure, met while writing; anything else is handed back as it is. */
export function explainWriteError(error: unknown, dir: string, purpose: string): unknown {
  return isFullDisk(error) ? noSpace(dir, purpose) : error
}

function noSpace(dir: string, purpose: string, neededBytes?: number, available?: number): AppError {
  const sizes =
    neededBytes === undefined || available === undefined
      ? ''
      : ` ${megabytes(neededBytes)} are needed, ${megabytes(available)} are free.`
  return new AppError(
    'internal_error',
    `No disk space left in ${dir} ${purpose}.${sizes} Free some, or set COPAL_CACHE to a larger disk.`,
  )
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString('en-US')} MB`
}

import { statfs } from 'node:fs/promises'
import { isFullDisk, noSpace } from './full-disk.ts'
import { makeFolder } from './make-folder.ts'

const ADVICE = 'set COPAL_CACHE to a larger disk'

/** Returns the bytes that an unprivileged user may still write on the file system of `dir`. */
async function freeBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir)
  return bavail * bsize
}

/**
 * Ensures that `dir` exists and has enough space before anything is written.
 *
 * @throws AppError `internal_error` with both sizes
 */
export async function requireSpace(
  dir: string,
  neededBytes: number,
  purpose: string,
  free: (dir: string) => Promise<number> = freeBytes,
): Promise<void> {
  makeFolder(dir)
  const available = await free(dir)
  if (available >= neededBytes) return
  const sizes = `${megabytes(neededBytes)} are needed, ${megabytes(available)} are free`
  throw noSpace(dir, `${purpose}. ${sizes}`, ADVICE)
}

/**
 * Converts a full-disk failure while writing into the same error; returns any other error unchanged. The cause is left out,
 * because the laboratory would take it for a failure of its own folder.
 */
export function explainWriteError(error: unknown, dir: string, purpose: string): unknown {
  return isFullDisk(error) ? noSpace(dir, purpose, ADVICE) : error
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString('en-US')} MB`
}

import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { getSystemErrorMessage } from 'node:util'
import { isFolder, nearestExisting, tellPath } from './existing-path.ts'
import { isFullDisk } from './full-disk.ts'

/** System error codes for a file that exists already or is of the wrong kind. */
const WRONG_KIND = new Set(['ENOTDIR', 'EEXIST', 'EISDIR'])
const NOT_ALLOWED = new Set(['EACCES', 'EPERM', 'EROFS'])

/**
 * Describes a system error with the path that it concerns: `README.md is a file, a folder is needed`.
 *
 * @param cwd paths below it are told from there
 * @param path for errors that do not know theirs, as those of reading a folder
 * @returns a sentence without its stop; undefined for what is no error of the system
 */
export function describeSystemError(error: unknown, cwd: string, path?: string): string | undefined {
  if (!isSystemError(error)) return undefined
  const { code = '', syscall = '', errno = 0 } = error
  const about = error.path ?? path
  const words = getSystemErrorMessage(errno) ?? code
  if (about === undefined || syscall.startsWith('spawn')) return `${syscall}: ${words}`
  const name = (of: string) => tellPath(of, cwd)
  const there = nearestExisting(resolve(cwd, error.dest ?? about))
  if (isFullDisk(error)) return `No disk space is left for ${name(about)}`
  if (NOT_ALLOWED.has(code)) return `${name(there)} may not be read or written here: ${words}`
  if (WRONG_KIND.has(code)) {
    if (isFolder(there)) return `${name(there)} is a folder, a file is needed`
    return syscall === 'open' && code === 'EEXIST'
      ? `${name(there)} is there already`
      : `${name(there)} is a file, a folder is needed`
  }
  if (code !== 'ENOENT') return `${name(about)}: ${words}`
  const folder = dirname(resolve(cwd, about))
  if (syscall === 'mkdir' && existsSync(folder)) return `No folder can be created in ${name(folder)}`
  return `${existsSync(folder) ? name(about) : `The folder ${name(folder)}`} does not exist`
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException & { dest?: string } {
  return error instanceof Error && 'syscall' in error && 'errno' in error && typeof error.errno === 'number'
}

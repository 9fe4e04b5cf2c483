import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { isFolder } from './existing-path.ts'

/** The mode of a folder that only its owner reads. */
export const PRIVATE = 0o700

/**
 * Creates a folder with its parents, one at a time. Node's own recursive `mkdir` never ends where the system says of an existing
 * parent that it does not exist, as Linux does in `/proc`.
 *
 * @param mode of the folder if it is new, without the bits of the umask; its parents are as by default
 * @returns whether the folder is new
 * @throws the system's error, of a file in the place of a folder too
 */
export function makeFolder(path: string, mode = 0o777): boolean {
  if (existsSync(path) && isFolder(path)) return false
  if (!existsSync(path) && dirname(path) !== path) makeFolder(dirname(path))
  try {
    mkdirSync(path, { mode })
    return true
  } catch (error) {
    // Another process may have been first.
    if (existsSync(path) && isFolder(path)) return false
    throw error
  }
}

import { accessSync, constants } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { canCreate } from './can-create.ts'
import { isFolder, nearestExisting, tellPath } from './existing-path.ts'
import { UserError } from './user-error.ts'

/**
 * Checks a folder to read from.
 *
 * @param expected what it holds, for the message
 * @throws UserError `folder_missing`
 */
export function inputFolder(name: string, cwd: string, expected: string): string {
  const path = resolve(cwd, name)
  const there = nearestExisting(path)
  if (!isFolder(there))
    throw new UserError('folder_missing', `${tellPath(there, cwd)} is a file, a folder is needed.`)
  if (there === path) return path
  throw new UserError('folder_missing', `The folder ${name} does not exist. Name ${expected}.`)
}

/**
 * Checks the path of an output file before the work whose result it will hold.
 *
 * @throws UserError `out_unwritable` its folder is missing, no file can be created there, or its name is a folder's; what the
 * system says when the folder may not be written
 */
export function outputFile(name: string, cwd: string): string {
  const path = resolve(cwd, name)
  const there = nearestExisting(path)
  if (there === path && isFolder(path)) throw refused(`${name} is a folder, a file is needed.`)
  const folder = outputFolder(dirname(path), cwd)
  if (there === path || there === folder) return path
  throw refused(`The folder ${tellPath(folder, cwd)} does not exist. Make it first, or name another file.`)
}

/**
 * Checks an output folder: it exists and can be written, or can be created.
 *
 * @throws UserError `out_unwritable` where a file is in the way, or nothing can be created; what the system says when it may not
 * be written
 */
export function outputFolder(name: string, cwd: string): string {
  const path = resolve(cwd, name)
  const there = nearestExisting(path)
  if (!isFolder(there)) throw refused(`${tellPath(there, cwd)} is a file, a folder is needed.`)
  accessSync(there, constants.W_OK)
  const what = there === path ? 'file' : 'folder'
  if (!canCreate(what, there)) throw refused(`No ${what} can be created in ${tellPath(there, cwd)}.`)
  return path
}

function refused(message: string): UserError {
  return new UserError('out_unwritable', message)
}

import { AppError } from '@copal/shared/errors.ts'
import { canCreate } from './can-create.ts'
import { isFullDisk } from './full-disk.ts'
import { makeFolder } from './make-folder.ts'
import { describeSystemError } from './system-error.ts'

/** A setting that names a folder. */
export type FolderSetting = 'COPAL_HOME' | 'COPAL_CACHE'

/**
 * Creates the folder of a setting if it does not exist, and writes a file in it to make sure that one can.
 *
 * @param mode of the folder if it is new
 * @throws AppError `invalid_request` that names the setting, the folder and the cause
 */
export function makeWritableFolder(dir: string, setting: FolderSetting, mode?: number): void {
  try {
    makeFolder(dir, mode)
    if (!canCreate('file', dir)) throw new Error('no file can be created there')
  } catch (cause) {
    const reason = describeSystemError(cause, process.cwd(), dir) ?? (cause as Error).message
    const advice = isFullDisk(cause)
      ? `Free some space, or set ${setting} to a folder on a larger disk.`
      : `Set ${setting} to a folder that you can write to.`
    throw new AppError(
      'invalid_request',
      `${setting} is ${dir}, which cannot be used: ${reason}. ${advice}`,
      { cause },
    )
  }
}

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isFullDisk } from '../../../gpu-node/src/platform/full-disk.ts'
import { makeFolder } from '../../../gpu-node/src/platform/make-folder.ts'
import { isErrno } from '../../../gpu-node/src/platform/scratch.ts'
import { describeSystemError } from '../../../gpu-node/src/platform/system-error.ts'
import { StartError } from '../processes/start-error.ts'

/** A setting that names a folder. */
export type FolderSetting = 'COPAL_HOME' | 'COPAL_CACHE'

/**
 * Creates the folder of a setting if it does not exist, and writes a file in it to make sure that one can.
 *
 * @returns whether the folder is new
 * @throws StartError that names the folder, the cause and the setting
 */
export function makeWritableFolder(dir: string, setting: FolderSetting): boolean {
  try {
    const isNew = makeFolder(dir)
    writeProbe(dir)
    return isNew
  } catch (cause) {
    const reason = describeSystemError(cause, process.cwd()) ?? (cause as Error).message
    const advice = isFullDisk(cause) ? 'Free some space, or set' : 'Set'
    throw new StartError(
      `${setting} is ${dir}, which cannot be used: ${reason}. ${advice} ${setting} to a folder that you can write to.`,
      { cause },
    )
  }
}

function writeProbe(dir: string): void {
  const probe = join(dir, `.write-test-${process.pid}`)
  try {
    writeFileSync(probe, 'x')
  } catch (cause) {
    // Of a file in a folder that exists the system says so where it allows none, as in `/proc`.
    if (isErrno(cause, 'ENOENT')) throw new Error('no file can be created there', { cause })
    throw cause
  }
  rmSync(probe)
}

import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive } from '../../../platform/process-identity.ts'
import { makeFolder } from '../../../platform/make-folder.ts'

const PREFIX = 'load-'

/** Creates a directory in `workDir` for one load; its name contains the id of the process that owns it. */
export async function createLoadDir(workDir: string): Promise<string> {
  makeFolder(workDir)
  return mkdtemp(join(workDir, `${PREFIX}${process.pid}-`))
}

/** Removes the load directories of ended processes from `workDir`. */
export async function removeStaleLoadDirs(workDir: string): Promise<void> {
  const names = await readdir(workDir).catch(() => [])
  for (const name of names) {
    const pid = Number(name.match(/^load-(\d+)-/)?.[1])
    if (!Number.isInteger(pid)) continue
    const path = join(workDir, name)
    if (!(await isInUse(pid, path))) await rm(path, { recursive: true, force: true })
  }
}

/** Returns whether a directory is in use. In a container every start may have the same pid, so the age decides then. */
async function isInUse(pid: number, path: string): Promise<boolean> {
  if (pid === process.pid) {
    const startedMs = Date.now() - process.uptime() * 1000
    const stats = await stat(path).catch(() => undefined)
    return stats !== undefined && stats.mtimeMs >= startedMs
  }
  return isAlive(pid)
}

import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive } from '../../../platform/process-identity.ts'

const PREFIX = 'load-'

/** A fresh directory in `workDir` for one load; its name tells the process that owns it. */
export async function createLoadDir(workDir: string): Promise<string> {
  await mkdir(workDir, { recursive: true })
  return mkdtemp(join(workDir, `${PREFIX}${process.pid}-`))
}

/** Removes what loads of processes that are gone have left in `workDir`. */
export async function removeStaleLoadDirs(workDir: string): Promise<void> {
  const names = await readdir(workDir).catch(() => [])
  for (const name of names) {
    const pid = Number(name.match(/^load-(\d+)-/)?.[1])
    if (!Number.isInteger(pid)) continue
    const path = join(workDir, name)
    if (!(await isInUse(pid, path))) await rm(path, { recursive: true, force: true })
  }
}

/** In a container every start may have the same pid: of our own pid only what is younger than we are is ours. */
async function isInUse(pid: number, path: string): Promise<boolean> {
  if (pid === process.pid) {
    const startedMs = Date.now() - process.uptime() * 1000
    const made = await stat(path).catch(() => undefined)
    return made !== undefined && made.mtimeMs >= startedMs
  }
  return isAlive(pid)
}

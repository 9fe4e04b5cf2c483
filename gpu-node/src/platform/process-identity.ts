import { readFileSync } from 'node:fs'

/** Returns whether a process with this pid runs, under any user. A zombie does not count as running. */
export function isAlive(pid: number): boolean {
  if (statFields(pid)?.[0] === 'Z') return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/**
 * Returns the start time of a process in kernel ticks since boot, which distinguishes it from a later one with the same pid.
 *
 * @returns `undefined` where the platform does not say, or there is no such process.
 */
export function startTicks(pid: number): string | undefined {
  return statFields(pid)?.[19]
}

/** Returns the fields of `/proc/<pid>/stat` from the third on; the name before them may contain any character. */
function statFields(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

/** Returns the parent of a process; `undefined` where the platform does not say, or there is no such process. */
export function parentOf(pid: number): number | undefined {
  const parent = statFields(pid)?.[1]
  return parent === undefined ? undefined : Number(parent)
}

/** Returns the command line of a process, for messages; `undefined` where the platform does not provide it. */
export function commandLine(pid: number): string | undefined {
  return argumentsOf(pid).join(' ').trim().slice(0, 120) || undefined
}

/** Returns the program and the arguments of a process; none where the platform does not provide them. */
export function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}

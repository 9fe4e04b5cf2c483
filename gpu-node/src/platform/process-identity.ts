import { readFileSync } from 'node:fs'

/** Whether a process with this pid runs, of whatever user; one that has ended and was not yet waited for does not. */
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
 * When a process began, in the kernel's ticks since boot: tells it from a later one with the same pid.
 *
 * @returns `undefined` where the platform does not say, or there is no such process.
 */
export function startTicks(pid: number): string | undefined {
  return statFields(pid)?.[19]
}

/** `/proc/<pid>/stat` from its third field on: the name before may hold anything. */
function statFields(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

/** The command line of a process, for messages; `undefined` where the platform does not say. */
export function commandLine(pid: number): string | undefined {
  try {
    return (
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 120) || undefined
    )
  } catch {
    return undefined
  }
}

import { readdirSync, readFileSync } from 'node:fs'

/** Returns the ids of the running processes of a name in a process group; undefined where the system has no `/proc`. */
export function pidsInGroup(group: number, name: string): number[] | undefined {
  if (process.platform !== 'linux') return undefined
  const members = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && isMember(pid, group, name))
  return members.map(Number)
}

function isMember(pid: string, group: number, name: string): boolean {
  const stat = readStat(pid)
  return stat?.name === name && stat.fields[0] !== 'Z' && Number(stat.fields[2]) === group
}

/** Clock ticks a second in which Linux reports processor time. */
const TICKS_PER_S = 100

/** Returns the processor time that processes have used, those that have ended left out, milliseconds. Only for Linux. */
export function processorTimeMs(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const [user, system] = readStat(String(pid))?.fields.slice(11, 13) ?? []
    return Number(user ?? 0) + Number(system ?? 0)
  })
  return ticks.reduce((sum, count) => sum + count, 0) * (1000 / TICKS_PER_S)
}

/** Returns the name of a process and the fields after it, state, parent, group and others; undefined when it has ended. */
function readStat(pid: string): { name: string; fields: string[] } | undefined {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // proc_pid_stat(5): "pid (name) state parent group …"; the name may contain anything.
  const end = stat.lastIndexOf(')')
  return { name: stat.slice(stat.indexOf('(') + 1, end), fields: stat.slice(end + 2).split(' ') }
}

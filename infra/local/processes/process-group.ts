import { readdirSync, readFileSync } from 'node:fs'

/** Returns the ids of the running processes of a name in a process group; undefined where the system has no `/proc`. */
export function pidsInGroup(group: number, name: string): number[] | undefined {
  if (process.platform !== 'linux') return undefined
  const members = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && isMember(pid, group, name))
  return members.map(Number)
}

function isMember(pid: string, group: number, name: string): boolean {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    // It has ended meanwhile.
    return false
  }
  // proc_pid_stat(5): "pid (name) state parent group …"; the name may contain anything.
  const end = stat.lastIndexOf(')')
  const [state, , groupId] = stat.slice(end + 2).split(' ')
  return stat.slice(stat.indexOf('(') + 1, end) === name && state !== 'Z' && Number(groupId) === group
}

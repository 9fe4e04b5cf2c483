import { readFileSync } from 'node:fs'

/** Values of Linux on all current machines. */
const TICKS_PER_SECOND = 100
const PAGE_BYTES = 4096

/** Resources that a process has used so far. */
export interface Usage {
  processorMs: number
  residentBytes: number
}

/** Returns the total usage of processes, without their children; undefined where there is no `/proc`. */
export function usageOf(pids: readonly number[]): Usage | undefined {
  const used = pids.map((pid) => {
    const stat = read(pid, 'stat')
    return stat === undefined ? undefined : parseStat(stat)
  })
  if (used.some((one) => one === undefined)) return undefined
  return {
    processorMs: used.reduce((sum, one) => sum + (one?.processorMs ?? 0), 0),
    residentBytes: used.reduce((sum, one) => sum + (one?.residentBytes ?? 0), 0),
  }
}

/** Parses a line of `/proc/<pid>/stat`. The name in brackets may contain any characters. */
export function parseStat(stat: string): Usage {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [user, system, pages] = [fields[11], fields[12], fields[21]].map(Number)
  return {
    processorMs: (((user ?? 0) + (system ?? 0)) * 1000) / TICKS_PER_SECOND,
    residentBytes: (pages ?? 0) * PAGE_BYTES,
  }
}

/** Returns the running child processes of a process. */
export function childrenOf(pid: number): number[] {
  return (read(pid, `task/${pid}/children`) ?? '').split(' ').filter(Boolean).map(Number)
}

function read(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return undefined
  }
}

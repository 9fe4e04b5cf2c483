import { readFileSync } from 'node:fs'

const HOOK = new URL('./stop-at-progress-hook.ts', import.meta.url).href

/**
 * Returns variables with which a process of Node, or a child of it, stops itself (SIGSTOP) as soon as it has reported progress
 * whose message contains `text`. A test can then end it there, however late the test looks.
 *
 * @param onceFile a file that does not exist: only the first process stops, which creates it
 */
export function stopAtProgress(text: string, onceFile?: string): Record<string, string> {
  const options = [process.env['NODE_OPTIONS'], `--import=${HOOK}`]
  return {
    NODE_OPTIONS: options.filter(Boolean).join(' '),
    TEST_STOP_AT: text,
    ...(onceFile === undefined ? {} : { TEST_STOP_ONCE: onceFile }),
  }
}

/** Whether a process is stopped. Only on Linux. */
export function isStopped(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).startsWith('T')
  } catch {
    // It has ended.
    return false
  }
}

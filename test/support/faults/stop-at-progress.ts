import { readFileSync } from 'node:fs'

const HOOK = new URL('./stop-at-progress-hook.ts', import.meta.url).href

/**
 * Returns variables with which a process of Node, or a child of it, stops itself (SIGSTOP) as soon as it has reported progress
 * whose message contains `text`. A test can then end it there, however late the test looks.
 */
export function stopAtProgress(text: string): Record<string, string> {
  const options = [process.env['NODE_OPTIONS'], `--import=${HOOK}`]
  return { NODE_OPTIONS: options.filter(Boolean).join(' '), TEST_STOP_AT: text }
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

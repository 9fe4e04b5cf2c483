import { fork, type ChildProcess, type ForkOptions } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

/** The file descriptor by which a child process reports its processor time to its parent: a pipe. */
export const REPORT_FD = 4
/** Argument of a program that has this pipe. */
const REPORTS = '--reports-processor-time'

/**
 * Starts a program that calls {@link reportProcessorTime}, without standard input and output, and with messages that carry typed
 * arrays. It does not inherit the flags of a test runner or debugger.
 *
 * @param onReport called with each processor time that the process reports, in milliseconds
 */
export function forkReporting(
  program: URL,
  options: Pick<ForkOptions, 'env'> & { stderr: 'pipe' | 'inherit' },
  onReport: (processorMs: number) => void,
): ChildProcess {
  const { stderr, ...others } = options
  const child = fork(fileURLToPath(program), [REPORTS], {
    ...others,
    serialization: 'advanced',
    execArgv: [],
    // The last one is REPORT_FD.
    stdio: ['ignore', 'ignore', stderr, 'ipc', 'pipe'],
  })
  const reports = child.stdio[REPORT_FD] as Readable
  // A pipe that breaks brings no more reports.
  reports.on('error', () => undefined)
  createInterface(reports).on('line', (line) => onReport(Number(line)))
  return child
}

/**
 * Reports the processor time that this process has used to its parent, every second, until the process ends; to none that did not
 * start it with {@link forkReporting}. A thread of its own reports it, so that it goes on while the event loop is blocked.
 */
export function reportProcessorTime(): void {
  if (!process.argv.includes(REPORTS)) return
  new Worker(new URL('./processor-time-worker.ts', import.meta.url), { execArgv: [] }).unref()
}

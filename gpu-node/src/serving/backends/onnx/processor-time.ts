import type { Readable } from 'node:stream'
import { createInterface } from 'node:readline'
import { Worker } from 'node:worker_threads'

/** The file descriptor by which a child process reports its processor time to its parent: a pipe. */
export const REPORT_FD = 4

/**
 * Reports the processor time that this process has used to its parent, every second, until the process ends. A thread of its own
 * reports it, so that it goes on while the event loop is blocked.
 */
export function reportProcessorTime(): void {
  new Worker(new URL('./processor-time-worker.ts', import.meta.url), { execArgv: [] }).unref()
}

/** Calls a function with each processor time that a child reports, in milliseconds. */
export function readProcessorTime(reports: Readable, onReport: (processorMs: number) => void): void {
  // A pipe that breaks brings no more reports.
  reports.on('error', () => undefined)
  createInterface(reports).on('line', (line) => onReport(Number(line)))
}

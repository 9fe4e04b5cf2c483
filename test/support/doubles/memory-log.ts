import { createLog, type Log } from '../../../gpu-node/src/platform/log.ts'

/** Creates a log whose lines a test can read. */
export function memoryLog(): Log & { lines: string[] } {
  const lines: string[] = []
  return { ...createLog({ format: 'plain', write: (line) => lines.push(line) }), lines }
}

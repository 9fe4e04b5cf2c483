/** The thread that reports the processor time of its process, see `reportProcessorTime`. */
import { writeSync } from 'node:fs'
import { REPORT_FD } from './processor-time.ts'

const INTERVAL_MS = 1000

setInterval(() => {
  const { user, system } = process.cpuUsage()
  try {
    writeSync(REPORT_FD, `${Math.round((user + system) / 1000)}\n`)
  } catch {
    // The parent is gone. This ends the thread alone.
    process.exit()
  }
}, INTERVAL_MS)

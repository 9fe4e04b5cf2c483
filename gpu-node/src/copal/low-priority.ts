import { readdirSync } from 'node:fs'
import { constants, setPriority } from 'node:os'

/**
 * Makes this process yield the processor to everything else. Imported first by child programs, for its
 * effect alone: on Linux a thread inherits the niceness of the one that starts it, so what starts later
 * is covered, and what runs already is set one by one.
 */
setPriority(constants.priority.PRIORITY_LOW)
if (process.platform === 'linux') {
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      setPriority(Number(thread), constants.priority.PRIORITY_LOW)
    } catch {
      // It ended meanwhile.
    }
  }
}

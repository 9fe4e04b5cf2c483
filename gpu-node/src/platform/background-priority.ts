import { readdirSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/**
 * How far work beside serving stands back. On Linux busy processors then give it about a quarter of their time:
 * requests come first, and an update still ends while traffic is heavy. At the lowest priority (19) it would get
 * one part in seventy, and masks would not come just when there is text to learn from.
 */
export const BACKGROUND_NICENESS = 5

/**
 * Makes this process stand back, if whoever started it has not set it back further: only root may undo that. A thread
 * inherits the niceness of the one that starts it, so what starts later is covered; on Linux what runs already is set
 * one by one.
 */
export function enterBackground(): void {
  if (getPriority() >= BACKGROUND_NICENESS) return
  setPriority(BACKGROUND_NICENESS)
  if (process.platform !== 'linux') return
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      setPriority(Number(thread), BACKGROUND_NICENESS)
    } catch {
      // It ended meanwhile.
    }
  }
}

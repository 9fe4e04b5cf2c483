import { readdirSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'

/**
 * Niceness of background work. On Linux, busy processors then give it about a quarter of their time, so requests come
 * first and an update still ends under heavy traffic. At the lowest priority (19) it would get one part in seventy, and
 * masks would stall just when there is text to learn from.
 */
export const BACKGROUND_NICENESS = 5

/**
 * Lowers the priority of this process, unless its parent lowered it further, which only root may undo. Threads inherit the
 * niceness of the thread that starts them, so later ones are covered; on Linux, running threads are set one by one.
 */
export function enterBackground(): void {
  if (getPriority() >= BACKGROUND_NICENESS) return
  setPriority(BACKGROUND_NICENESS)
  if (process.platform !== 'linux') return
  for (const thread of readdirSync('/proc/self/task')) {
    try {
      setPriority(Number(thread), BACKGROUND_NICENESS)
    } catch {
      // The thread ended meanwhile.
    }
  }
}

import { reasonOf, type Log } from './log.ts'
import { withTimeout } from './timeout.ts'

/** The started parts of a process, which are stopped in the reverse order. */
export interface StopStack {
  /**
   * Adds a part that has been started or is about to be.
   *
   * @returns the part
   */
  add<Part>(name: string, part: Part, stop: (part: Part) => unknown): Part
  /**
   * Stops all parts one after another, the last one that was added first. A part that fails to stop, or takes too long, is logged,
   * and the next one is stopped; one that is late goes on stopping meanwhile. A second call does nothing.
   */
  stop(): Promise<void>
}

/**
 * Creates an empty stack.
 *
 * @param timeoutMs time that each part has to stop
 */
export function createStopStack(timeoutMs: number, log: Pick<Log, 'warn'>): StopStack {
  const started: { name: string; stop: () => unknown }[] = []

  async function stopOne(name: string, stop: () => unknown): Promise<void> {
    try {
      const stopped = (async () => (await stop(), true))()
      if (!(await withTimeout(stopped, timeoutMs)))
        log.warn('a part of the process has not stopped in time', { part: name, timeoutMs })
    } catch (error) {
      log.warn('a part of the process did not stop cleanly', { part: name, reason: reasonOf(error) })
    }
  }

  return {
    add(name, part, stop) {
      started.push({ name, stop: () => stop(part) })
      return part
    },
    async stop() {
      for (let last = started.pop(); last; last = started.pop()) await stopOne(last.name, last.stop)
    },
  }
}

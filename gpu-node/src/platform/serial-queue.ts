import { AppError } from '@copal/shared/errors.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Runs pieces of work one at a time, in order of arrival. */
export interface Line {
  /**
   * Runs the work when it is its turn. Aborting before that removes it from the queue.
   *
   * @throws AppError `overloaded` when too many wait, `client_closed_request` after an abort, and what the work throws
   */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** @param what is done, for the error of a line that is full: `schemas to compile` */
export function createLine(what: string, mostWaiting: number): Line {
  let last = Promise.resolve()
  let waiting = 0
  return {
    async run(work, signal) {
      if (waiting >= mostWaiting) {
        const message = `This node already has ${mostWaiting} ${what}. Try again later.`
        throw new AppError('overloaded', message, { retryAfterS: 1 })
      }
      waiting += 1
      const before = last
      const { promise: mine, resolve: done } = Promise.withResolvers<void>()
      last = before.then(() => mine)
      try {
        await unlessAborted(before, signal)
        return await work()
      } finally {
        waiting -= 1
        done()
      }
    },
  }
}

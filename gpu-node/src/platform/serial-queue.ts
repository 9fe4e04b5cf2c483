import { AppError } from '@copal/shared/errors.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Runs pieces of work one at a time, in order of arrival. */
export interface SerialQueue {
  /**
   * Runs the work when it is its turn. Aborting before that removes it from the queue.
   *
   * @throws AppError `overloaded` when too many wait, `client_closed_request` after an abort, and what the work throws
   */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/**
 * Creates an empty queue.
 *
 * @param what plural name of the work for the error of a full queue: `schemas to compile`
 */
export function createSerialQueue(what: string, maxWaiting: number): SerialQueue {
  let last = Promise.resolve()
  let waiting = 0
  return {
    async run(work, signal) {
      if (waiting >= maxWaiting) {
        const message = `This node already has ${maxWaiting} ${what}. Try again later.`
        throw new AppError('overloaded', message, { retryAfterS: 1 })
      }
      waiting += 1
      const before = last
      const { promise: ended, resolve: end } = Promise.withResolvers<void>()
      last = before.then(() => ended)
      try {
        await unlessAborted(before, signal)
        return await work()
      } finally {
        waiting -= 1
        end()
      }
    },
  }
}

import { AppError } from '@copal/shared/errors.ts'

/** Work that is done one piece after another, in the order it came. */
export interface Line {
  /**
   * Does the work when it has its turn; who aborts before gives up the place.
   *
   * @throws AppError `overloaded` when too many wait, `client_closed_request` after an abort, and what the work throws
   */
  run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>
}

/** @param what is done, for the error of a line that is full: `schemas to compile` */
export function createLine(what: string, mostWaiting: number): Line {
  let last: Promise<unknown> = Promise.resolve()
  let waiting = 0
  return {
    async run(work, signal) {
      if (waiting >= mostWaiting) {
        const message = `This node already has ${mostWaiting} ${what}. Try again later.`
        throw new AppError('overloaded', message, { retryAfterS: 1 })
      }
      waiting += 1
      const { promise: left, reject: leave } = Promise.withResolvers<never>()
      const onAbort = () => leave(new AppError('client_closed_request', 'The client closed the request.'))
      signal?.addEventListener('abort', onAbort, { once: true })
      if (signal?.aborted) onAbort()
      const turn = last.then(() => (signal?.aborted ? left : work()))
      last = turn.catch(() => undefined)
      try {
        return await Promise.race([turn, left])
      } finally {
        waiting -= 1
        signal?.removeEventListener('abort', onAbort)
      }
    },
  }
}

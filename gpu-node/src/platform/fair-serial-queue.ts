import { AppError } from '@copal/shared/errors.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Runs pieces of work one at a time, and takes turns between their owners. */
export interface FairSerialQueue {
  /**
   * Runs the work when it is its turn. Aborting before that removes it from the queue.
   *
   * @param owner its work runs in order of arrival, and that of other owners between
   * @throws AppError `overloaded` when too many wait, `rate_limit_exceeded` when too many of this owner do, `client_closed_request` after an abort, and what the work throws
   */
  run<T>(work: () => Promise<T>, owner: string, signal?: AbortSignal): Promise<T>
}

/**
 * Creates an empty queue. An owner with much work delays the others by one piece at a time.
 *
 * @param what plural name of the work for the error of a full queue: `schemas to compile`
 * @param maxOfOwner how many of an owner may run or wait; without it, one owner can fill the queue
 */
export function createFairSerialQueue(
  what: string,
  maxWaiting: number,
  maxOfOwner = maxWaiting,
): FairSerialQueue {
  /** The waiting work by owner; the first owner's turn is next. No list is empty. */
  const waitingOf = new Map<string, (() => void)[]>()
  /** How many of each owner run or wait. */
  const sizeOf = new Map<string, number>()
  let size = 0
  let isRunning = false

  const startNext = () => {
    const [next] = waitingOf
    isRunning = next !== undefined
    if (!next) return
    const [owner, [start, ...rest]] = next
    waitingOf.delete(owner)
    if (rest.length > 0) waitingOf.set(owner, rest)
    start?.()
  }

  const turnOf = async (owner: string, signal: AbortSignal | undefined) => {
    const { promise: turn, resolve } = Promise.withResolvers<void>()
    let hasTurn = false
    const start = () => {
      hasTurn = true
      resolve()
    }
    waitingOf.set(owner, [...(waitingOf.get(owner) ?? []), start])
    try {
      await unlessAborted(turn, signal)
    } catch (left) {
      const rest = waitingOf.get(owner)?.filter((one) => one !== start) ?? []
      if (hasTurn) startNext()
      else if (rest.length > 0) waitingOf.set(owner, rest)
      else waitingOf.delete(owner)
      throw left
    }
  }

  return {
    async run(work, owner, signal) {
      const ofOwner = sizeOf.get(owner) ?? 0
      if (size >= maxWaiting) {
        const message = `This node already has ${maxWaiting} ${what}. Try again later.`
        throw new AppError('overloaded', message, { retryAfterS: 1 })
      }
      if (ofOwner >= maxOfOwner) {
        const message = `This node already has ${maxOfOwner} ${what} of this tenant. Try again in 1 s.`
        throw new AppError('rate_limit_exceeded', message, { retryAfterS: 1 })
      }
      size += 1
      sizeOf.set(owner, ofOwner + 1)
      try {
        if (isRunning) await turnOf(owner, signal)
        isRunning = true
        try {
          return await work()
        } finally {
          startNext()
        }
      } finally {
        size -= 1
        const left = (sizeOf.get(owner) ?? 1) - 1
        if (left > 0) sizeOf.set(owner, left)
        else sizeOf.delete(owner)
      }
    },
  }
}

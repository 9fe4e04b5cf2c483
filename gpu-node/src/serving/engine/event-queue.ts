import { AppError } from '@copal/shared/errors.ts'

/** Events of one producer for one consumer, in order, kept until they are read. */
export interface EventQueue<T> {
  push(event: T): void
  /** No event follows; `error` is thrown to the consumer after those that are queued. */
  close(error?: Error): void
  /** May be iterated once. Leaving the loop early calls `onLeave`. */
  readonly events: AsyncIterable<T>
}

/** Queues that bound together what they keep. */
export interface EventQueues<T> {
  /**
   * Opens an empty queue. `onLeave` is called when its consumer stops reading before the end. It is also called when all
   * queues together exceed the bound and this one is the longest: it is then emptied and its consumer gets `overloaded`.
   */
  open(onLeave: () => void): EventQueue<T>
}

interface BoundedQueue {
  readonly unread: number
  drop: () => void
}

/** Read events are removed from the array in batches of at least this size, because each removal moves the rest. */
const TRIM_AT = 1024

/** Creates queues that together keep at most `maxEvents` unread events. */
export function createEventQueues<T>(maxEvents: number): EventQueues<T> {
  const nonEmpty = new Set<BoundedQueue>()
  let totalUnread = 0

  const dropLargest = () => {
    let largest: BoundedQueue | undefined
    for (const queue of nonEmpty) if (queue.unread > (largest?.unread ?? 0)) largest = queue
    largest?.drop()
  }

  return {
    open(onLeave) {
      let closed: { error: Error | undefined } | undefined
      let wake: (() => void) | undefined
      let queued: (T | undefined)[] = []
      /** Events at the start of `queued` that have been read. */
      let read = 0
      const own: BoundedQueue = {
        get unread() {
          return queued.length - read
        },
        drop() {
          closed = { error: unreadError() }
          empty()
          onLeave()
          signal()
        },
      }

      const signal = () => {
        wake?.()
        wake = undefined
      }
      const empty = () => {
        totalUnread -= own.unread
        queued = []
        read = 0
        nonEmpty.delete(own)
      }
      const take = (): T => {
        const event = queued[read]!
        queued[read] = undefined
        read += 1
        totalUnread -= 1
        if (read === queued.length || (read >= TRIM_AT && read * 2 >= queued.length)) {
          queued.splice(0, read)
          read = 0
        }
        return event
      }

      async function* readAll(): AsyncGenerator<T, void, undefined> {
        let ended = false
        try {
          while (true) {
            while (own.unread > 0) yield take()
            nonEmpty.delete(own)
            if (closed) break
            await new Promise<void>((resolve) => (wake = resolve))
          }
          ended = true
          if (closed.error) throw closed.error
        } finally {
          empty()
          if (!ended) onLeave()
        }
      }

      return {
        push(event) {
          if (closed) return
          queued.push(event)
          nonEmpty.add(own)
          totalUnread += 1
          if (totalUnread > maxEvents) dropLargest()
          signal()
        },
        close(error) {
          closed ??= { error }
          signal()
        },
        events: readAll(),
      }
    },
  }
}

function unreadError(): AppError {
  return new AppError(
    'overloaded',
    'The client did not read the response in time, so this node dropped it. Try again and read the stream as it arrives.',
    { retryAfterS: 1 },
  )
}

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
   * An empty one. `onLeave` is told when its consumer stops reading before the end, and when this is the one that keeps the
   * most while all together keep too much: then it is emptied, and its consumer gets `overloaded`.
   */
  open(onLeave: () => void): EventQueue<T>
}

interface Queued {
  unread: number
  drop: () => void
}

/** Places of events that were read are given back when so many are, and half of all: taking the first of many moves all. */
const TRIM_AT = 1024

/** No queue. */
export function createEventQueues<T>(mostEvents: number): EventQueues<T> {
  /** Those that keep something. */
  const keeping = new Set<Queued>()
  let kept = 0

  const dropLargest = () => {
    let largest: Queued | undefined
    for (const one of keeping) if (one.unread > (largest?.unread ?? 0)) largest = one
    largest?.drop()
  }

  return {
    open(onLeave) {
      let closed: { error: Error | undefined } | undefined
      let wake: (() => void) | undefined
      let queued: (T | undefined)[] = []
      /** So many of those have been read. */
      let read = 0
      const own: Queued = {
        get unread() {
          return queued.length - read
        },
        drop() {
          closed = { error: unread() }
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
        kept -= own.unread
        queued = []
        read = 0
        keeping.delete(own)
      }
      const take = (): T => {
        const event = queued[read]!
        queued[read] = undefined
        read += 1
        kept -= 1
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
            keeping.delete(own)
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
          keeping.add(own)
          kept += 1
          if (kept > mostEvents) dropLargest()
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

function unread(): AppError {
  return new AppError(
    'overloaded',
    'The answer was not read in time, and this node keeps no more of it. Try again, and read as it comes.',
    { retryAfterS: 1 },
  )
}

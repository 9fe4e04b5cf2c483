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

interface Queued<T> {
  events: T[]
  drop: () => void
}

/** No queue. */
export function createEventQueues<T>(mostEvents: number): EventQueues<T> {
  /** Those that keep something. */
  const keeping = new Set<Queued<T>>()
  let kept = 0

  const dropLargest = () => {
    let largest: Queued<T> | undefined
    for (const one of keeping) if (one.events.length > (largest?.events.length ?? 0)) largest = one
    largest?.drop()
  }

  return {
    open(onLeave) {
      let closed: { error: Error | undefined } | undefined
      let wake: (() => void) | undefined
      const own: Queued<T> = {
        events: [],
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
        kept -= own.events.length
        own.events = []
        keeping.delete(own)
      }

      async function* read(): AsyncGenerator<T, void, undefined> {
        let ended = false
        try {
          while (true) {
            while (own.events.length > 0) {
              kept -= 1
              yield own.events.shift()!
            }
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
          own.events.push(event)
          keeping.add(own)
          kept += 1
          if (kept > mostEvents) dropLargest()
          signal()
        },
        close(error) {
          closed ??= { error }
          signal()
        },
        events: read(),
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

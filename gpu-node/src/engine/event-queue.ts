/** Events of one producer for one consumer, in order, kept until they are read. */
export interface EventQueue<T> {
  push(event: T): void
  /** No event follows; `error` is thrown to the consumer after those that are queued. */
  close(error?: Error): void
  /** May be iterated once. Leaving the loop early calls `onLeave`. */
  readonly events: AsyncIterable<T>
}

/** An empty queue. `onLeave` is told when the consumer stops reading before the end. */
export function createEventQueue<T>(onLeave: () => void): EventQueue<T> {
  let queued: T[] = []
  let closed: { error: Error | undefined } | undefined
  let wake: (() => void) | undefined

  const signal = () => {
    wake?.()
    wake = undefined
  }

  async function* read(): AsyncGenerator<T, void, undefined> {
    let ended = false
    try {
      while (true) {
        const batch = queued
        queued = []
        yield* batch
        if (queued.length > 0) continue
        if (closed) break
        await new Promise<void>((resolve) => (wake = resolve))
      }
      ended = true
      if (closed.error) throw closed.error
    } finally {
      if (!ended) onLeave()
    }
  }

  return {
    push(event) {
      if (closed) return
      queued.push(event)
      signal()
    },
    close(error) {
      closed ??= { error }
      signal()
    },
    events: read(),
  }
}

import type { Deps } from '../contracts/bindings.ts'

/** Collects items of an isolate's events and sends them together, because one call per item would cost more. */
export interface Batcher<T> {
  /** Adds items and keeps the event alive until `send` has sent all pending items, unless another event does so. */
  readonly add: (
    deps: Pick<Deps, 'nowMs' | 'waitUntil'>,
    items: readonly T[],
    send: (all: T[]) => Promise<unknown>,
  ) => void
  /** Removes and returns the pending items, for a caller that sends them in another way. */
  readonly take: () => T[]
}

/**
 * Creates a batcher for the items of many events.
 *
 * @param options.delayMs the batching delay
 * @param options.senderTimeoutMs the time after which the event that was to send counts as gone, and the next one sends
 * @param options.maxItems the number of pending items that are sent at once, without the delay
 */
export function createBatcher<T>({
  delayMs,
  senderTimeoutMs,
  maxItems = Infinity,
}: {
  delayMs: number
  senderTimeoutMs: number
  maxItems?: number
}): Batcher<T> {
  let pending: T[] = []
  let senderUntilMs = -Infinity

  const take = (): T[] => {
    const taken = pending
    pending = []
    return taken
  }

  return {
    take,
    add({ nowMs, waitUntil }, items, send) {
      pending.push(...items)
      const sendAll = async () => {
        senderUntilMs = -Infinity
        const all = take()
        if (all.length > 0) await send(all)
      }
      if (pending.length >= maxItems) return waitUntil(sendAll())
      if (nowMs() < senderUntilMs) return
      senderUntilMs = nowMs() + senderTimeoutMs
      waitUntil(new Promise((resolve) => setTimeout(resolve, delayMs)).then(sendAll))
    },
  }
}

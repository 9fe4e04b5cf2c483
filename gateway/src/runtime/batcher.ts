import type { Deps } from '../contracts/bindings.ts'

/** Things of an isolate's events on their way to one place: a call of its own for each costs more than they do. */
export interface Batcher<T> {
  /** Keeps the event alive until `send` has sent what is there then, unless another event does it. */
  readonly add: (
    deps: Pick<Deps, 'nowMs' | 'waitUntil'>,
    things: readonly T[],
    send: (all: T[]) => Promise<unknown>,
  ) => void
  /** What is not sent yet, for who sends it by another way. */
  readonly take: () => T[]
}

/**
 * Gathers what many events have to send, for one of them to send.
 *
 * @param options.waitMs how long things wait for company
 * @param options.lostMs an event that was to send them and has not by then is gone
 * @param options.most as many are sent at once
 */
export function createBatcher<T>({
  waitMs,
  lostMs,
  most = Infinity,
}: {
  waitMs: number
  lostMs: number
  most?: number
}): Batcher<T> {
  let waiting: T[] = []
  let sentByMs = -Infinity

  const take = (): T[] => {
    const taken = waiting
    waiting = []
    return taken
  }

  return {
    take,
    add({ nowMs, waitUntil }, things, send) {
      waiting.push(...things)
      const sendAll = async () => {
        sentByMs = -Infinity
        const all = take()
        if (all.length > 0) await send(all)
      }
      if (waiting.length >= most) return waitUntil(sendAll())
      if (nowMs() < sentByMs) return
      sentByMs = nowMs() + lostMs
      waitUntil(new Promise((resolve) => setTimeout(resolve, waitMs)).then(sendAll))
    },
  }
}

import type { Deps } from '../deps.ts'
import { askFleet } from '../fleet/ask.ts'

/** How long an ending waits for a request that asks the fleet anyway. */
const WAIT_MS = 5
/** An event that was to tell the fleet and has not by then is gone. */
const LOST_MS = 1_000

/**
 * Requests of an isolate that are answered, so that another of their key may run: told to the fleet with the next request
 * that asks there, or soon by themselves. One that gets lost ends with its receipt.
 */
export interface Answered {
  /** Keeps the event alive until the fleet is told, unless another's does it. */
  add(deps: Pick<Deps, 'fleet' | 'nowMs' | 'waitUntil'>, requestId: string): void
  /** What the fleet is not told yet, for who asks it now. */
  take(): string[]
}

/** What is answered in an isolate. */
export function createAnswered(): Answered {
  let waiting: string[] = []
  let toldByMs = -Infinity

  const take = (): string[] => {
    const taken = waiting
    waiting = []
    return taken
  }

  return {
    take,
    add(deps, requestId) {
      waiting.push(requestId)
      const nowMs = deps.nowMs()
      if (nowMs < toldByMs) return
      toldByMs = nowMs + LOST_MS
      const tell = async () => {
        await new Promise((resolve) => setTimeout(resolve, WAIT_MS))
        toldByMs = -Infinity
        const answered = take()
        if (answered.length > 0) await askFleet(deps, (fleet) => fleet.finish(answered, false))
      }
      deps.waitUntil(tell())
    },
  }
}

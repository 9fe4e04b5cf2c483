import type { Deps } from '../../deps.ts'
import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { gather } from '../../runtime/batcher.ts'

/** How long an ending waits for a request that asks the fleet anyway. */
const WAIT_MS = 5
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
  const { add, take } = gather<string>({ waitMs: WAIT_MS, lostMs: LOST_MS })
  return {
    take,
    add: (deps, requestId) =>
      add(deps, [requestId], (answered) => askFleet(deps, (fleet) => fleet.finish(answered, false))),
  }
}

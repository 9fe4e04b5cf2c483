import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { createBatcher } from '../../runtime/batcher.ts'
import type { CompletedRequests } from '../../contracts/context.ts'

/** How long an ending waits for a request that asks the fleet anyway. */
const WAIT_MS = 5
const LOST_MS = 1_000

/** What is answered in an isolate. */
export function createCompletedRequests(): CompletedRequests {
  const { add, take } = createBatcher<string>({ waitMs: WAIT_MS, lostMs: LOST_MS })
  return {
    take,
    add: (deps, requestId) =>
      add(deps, [requestId], (answered) => askFleet(deps, (fleet) => fleet.finish(answered, false))),
  }
}

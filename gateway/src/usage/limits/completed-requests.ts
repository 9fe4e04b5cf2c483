import { askFleet } from '../../fleet/client/ask-fleet.ts'
import { createBatcher } from '../../runtime/batcher.ts'
import type { CompletedRequests } from '../../contracts/context.ts'

/** How long a completed request waits for another request that calls the fleet anyway. */
const BATCHING_DELAY_MS = 5
const SENDER_TIMEOUT_MS = 1_000

/** Creates the list of an isolate's completed requests. */
export function createCompletedRequests(): CompletedRequests {
  const { add, take } = createBatcher<string>({
    delayMs: BATCHING_DELAY_MS,
    senderTimeoutMs: SENDER_TIMEOUT_MS,
  })
  return {
    take,
    add: (deps, requestId) =>
      add(deps, [requestId], (completed) => askFleet(deps, (fleet) => fleet.finish(completed, false))),
  }
}

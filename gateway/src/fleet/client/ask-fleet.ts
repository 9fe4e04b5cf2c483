import { AppError } from '@copal/shared/errors.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'

/** The pauses between attempts. */
const PAUSES_MS = [20, 100, 500, 1_000]

/**
 * Calls the Fleet object, and retries if it was reset meanwhile. So every call must be safe to repeat.
 *
 * @param signal stops the retries when it is aborted
 * @throws AppError `no_node_available` if the object does not respond
 */
export async function askFleet<T>(
  deps: Pick<Deps, 'fleet'>,
  ask: (fleet: Deps['fleet']) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  let cause: unknown
  for (const pauseMs of [...PAUSES_MS, 0]) {
    try {
      return await ask(deps.fleet)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      cause = error
      if (isOverloaded(error)) break
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      if (signal?.aborted) break
    }
  }
  const message = 'The gateway cannot look for a node now. Try again in 2 s.'
  throw new AppError('no_node_available', message, { cause, retryAfterS: 2 })
}

/** Returns whether an error has the flag that Cloudflare sets if a Durable Object is overloaded: the call did not reach it. */
export function isOverloaded(error: unknown): boolean {
  return error instanceof Error && 'overloaded' in error && error.overloaded === true
}

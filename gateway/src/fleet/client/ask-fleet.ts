import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../../contracts/bindings.ts'

/** Pauses between tries. */
const PAUSES_MS = [20, 100, 500, 1_000]

/**
 * Asks the fleet, and again when its Durable Object was reset meanwhile: whatever it is asked may be asked twice.
 *
 * @param signal when it is aborted nobody wants to know any more: the fleet is not asked again
 * @throws AppError `no_node_available` when it does not answer
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
      cause = error
      if (isOverloaded(error)) break
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      if (signal?.aborted) break
    }
  }
  const message = 'The gateway cannot look for a node now. Try again in 2 s.'
  throw new AppError('no_node_available', message, { cause, retryAfterS: 2 })
}

/** What Cloudflare sets on the errors of an object that gets more than it can take. */
function isOverloaded(error: unknown): boolean {
  return error instanceof Error && 'overloaded' in error && error.overloaded === true
}

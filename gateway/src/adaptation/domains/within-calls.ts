import { AppError } from '@copal/shared/errors.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { CallBudget } from '../../contracts/call-budget.ts'

/**
 * Does work of a request that a repeated request goes on with, as far as a budget of calls goes.
 *
 * @param what the work, for the message: `the deletion of 'code'`
 * @param work called with dependencies that take from the budget
 * @throws AppError `conflict` if the calls are used up, which says how to go on
 */
export async function withinCalls<T>(
  deps: Deps,
  calls: CallBudget,
  what: string,
  work: (deps: Deps) => Promise<T>,
): Promise<T> {
  try {
    return await work(meterDeps(deps, calls))
  } catch (error) {
    if (!isCallsUsedUp(error)) throw error
    throw new AppError(
      'conflict',
      `One call cannot finish ${what}. It keeps what it has done: repeat the call to continue.`,
      { cause: error },
    )
  }
}

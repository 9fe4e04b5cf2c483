import type { WorkflowStep } from 'cloudflare:workers'
import { createCallBudget, isCallsUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { advanceUpdate } from './advance-update.ts'

/** Parameters of an instance of the update workflow. */
export interface UpdateWorkflowParams {
  updateId: string
}

/** An instance has at most 1,024 steps, and a turn takes two. With the waits below, these turns last more than a day. */
const MAX_TURNS = 500

/**
 * Advances one update until it ends.
 *
 * Heartbeats advance updates too, and usually come first. The workflow runs the steps that need no node, also while
 * there is no node. It keeps no state, since the row in D1 is the source of truth, so it may be interrupted anywhere, or
 * never run.
 *
 * A turn whose calls are used up leaves the rest to the next one. The first one comes after a wait, because what starts an update
 * advances it too, and both would collect the same texts.
 *
 * @param createDeps called once for each turn
 */
export async function runUpdateWorkflow(
  { updateId }: Readonly<UpdateWorkflowParams>,
  step: WorkflowStep,
  createDeps: () => Deps,
): Promise<void> {
  for (let turn = 1; turn <= MAX_TURNS; turn++) {
    await step.sleep(`wait ${turn}`, waitMs(turn))
    const ended = await step.do(`advance ${turn}`, async () => {
      try {
        const update = await advanceUpdate(meterDeps(createDeps(), createCallBudget()), updateId)
        return update === undefined || update.finishedAt !== null
      } catch (error) {
        if (!isCallsUsedUp(error)) throw error
        return false
      }
    })
    if (ended) return
  }
}

/** Returns the wait before a turn, from 5 s to 5 minutes. */
function waitMs(turn: number): number {
  return Math.min(300_000, 5_000 * 1.2 ** (turn - 1))
}

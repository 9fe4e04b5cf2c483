import type { WorkflowStep } from 'cloudflare:workers'
import { advanceUpdate } from './advance-update.ts'
import type { StepDeps } from './update-step.ts'

/** Parameters of an instance of the update workflow. */
export interface UpdateWorkflowParams {
  updateId: string
}

/** Steps of an instance are limited to 1,024; with these two a turn and the waits below, that is more than a day. */
const MAX_TURNS = 500

/**
 * Drives one update to its end when nothing else does.
 *
 * Heartbeats advance updates too and usually come first. This is for the steps that need no node, and for the time
 * when no node is there. The row in D1 is the truth: the workflow keeps nothing, so it may be cut off anywhere, or
 * never run.
 *
 * @param createDeps is called once a turn
 */
export async function runUpdateWorkflow(
  { updateId }: Readonly<UpdateWorkflowParams>,
  step: WorkflowStep,
  createDeps: () => StepDeps,
): Promise<void> {
  for (let turn = 1; turn <= MAX_TURNS; turn++) {
    const ended = await step.do(`advance ${turn}`, async () => {
      const update = await advanceUpdate(createDeps(), updateId)
      return update === undefined || update.finishedAt !== null
    })
    if (ended) return
    await step.sleep(`wait ${turn}`, waitMs(turn))
  }
}

/** From 5 s to 5 minutes. */
function waitMs(turn: number): number {
  return Math.min(300_000, 5_000 * 1.2 ** (turn - 1))
}

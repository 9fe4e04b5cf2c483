import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from 'cloudflare:workers'
import { createDeps, type Bindings } from '../../deps.ts'
import { advance } from './advance-update.ts'

/** What starts an {@link UpdateWorkflow}. */
interface UpdateWorkflowParams {
  updateId: string
}

/** Steps of an instance are limited to 1,024; with these two a turn and the waits below, that is more than a day. */
const MAX_TURNS = 500

/**
 * Drives one update to its end when nothing else does.
 *
 * Heartbeats advance updates too and usually come first; this is for the steps that need no node, and for
 * the time when none is there. The row in D1 is the truth: the workflow keeps nothing, so it does not
 * matter where it is cut off or whether it runs at all.
 */
export class UpdateWorkflow extends WorkflowEntrypoint<Bindings, UpdateWorkflowParams> {
  override async run(
    event: Readonly<WorkflowEvent<UpdateWorkflowParams>>,
    step: WorkflowStep,
  ): Promise<void> {
    const { updateId } = event.payload
    for (let turn = 1; turn <= MAX_TURNS; turn++) {
      const ended = await step.do(`advance ${turn}`, async () => {
        const update = await advance(createDeps(this.env, this.ctx), updateId)
        return update === undefined || update.finishedAt !== null
      })
      if (ended) return
      await step.sleep(`wait ${turn}`, waitMs(turn))
    }
  }
}

/** From 5 s to 5 minutes. */
function waitMs(turn: number): number {
  return Math.min(300_000, 5_000 * 1.2 ** (turn - 1))
}

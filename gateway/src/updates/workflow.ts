import { WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from 'cloudflare:workers'
import type { Bindings } from '../deps.ts'

/** What starts an {@link UpdateWorkflow}. */
export interface UpdateWorkflowParams {
  updateId: string
}

/** Drives one update to its end. */
export class UpdateWorkflow extends WorkflowEntrypoint<Bindings, UpdateWorkflowParams> {
  override async run(_event: Readonly<WorkflowEvent<UpdateWorkflowParams>>, step: WorkflowStep): Promise<void> {
    await step.sleep('wait', '1 second')
  }
}

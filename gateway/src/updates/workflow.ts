// Shell so that the Worker loads until the adaptation engineer writes this file: overwrite it.
import { WorkflowEntrypoint } from 'cloudflare:workers'
import type { Bindings } from '../deps.ts'

export class UpdateWorkflow extends WorkflowEntrypoint<Bindings> {
  override async run(): Promise<void> {}
}

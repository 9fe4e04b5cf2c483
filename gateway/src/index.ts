import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { createApp } from './app.ts'
import { createDeps, type Bindings } from './deps.ts'
import { handleSamples } from './domains/consume.ts'
import { tick } from './updates/drive.ts'

export { Fleet } from './fleet/fleet.ts'
export { Reservoir } from './domains/reservoir.ts'
export { UpdateWorkflow } from './updates/workflow.ts'

const app = createApp()

export default {
  fetch: (request, env, ctx) => app.fetch(request, env, ctx),
  queue: (batch, env, ctx) => handleSamples(createDeps(env, ctx), batch),
  scheduled: (_controller, env, ctx) => tick(createDeps(env, ctx)),
} satisfies ExportedHandler<Bindings, SampleMessage>

import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { createApp } from './app.ts'
import { deleteOldReceipts, deleteOldScores } from './db/retention.ts'
import { createDeps, type Bindings } from './deps.ts'
import { handleSamples } from './domains/consume.ts'
import { pepperStoredKeys } from './keys/pepper-stored.ts'
import { deleteOldParts } from './masks/parts.ts'
import { tick } from './updates/drive.ts'

export { ResponseCache } from './cache/response-cache.ts'
export { Fleet } from './fleet/fleet.ts'
export { Reservoir } from './domains/reservoir.ts'
export { UpdateWorkflow } from './updates/workflow.ts'

const app = createApp()

export default {
  fetch: (request, env, ctx) => app.fetch(request, env, ctx),
  queue: (batch, env, ctx) => handleSamples(createDeps(env, ctx), batch),
  async scheduled(_controller, env, ctx) {
    const deps = createDeps(env, ctx)
    await Promise.all([
      tick(deps),
      deleteOldParts(deps),
      pepperStoredKeys(deps),
      deleteOldScores(deps),
      deleteOldReceipts(deps),
    ])
  },
} satisfies ExportedHandler<Bindings, SampleMessage>

import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { createApp } from './app.ts'
import { deleteOldDays, deleteOldReceipts, deleteOldScores } from './db/retention.ts'
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

/** What cron does. */
const TASKS = { tick, deleteOldParts, pepperStoredKeys, deleteOldScores, deleteOldReceipts, deleteOldDays }

export default {
  fetch: (request, env, ctx) => app.fetch(request, env, ctx),
  queue: (batch, env, ctx) => handleSamples(createDeps(env, ctx), batch),
  async scheduled(_controller, env, ctx) {
    const deps = createDeps(env, ctx)
    // One that fails takes none of the others with it, which the runtime would end with this event.
    const run = ([name, task]: [string, (typeof TASKS)[keyof typeof TASKS]]) =>
      task(deps).catch((error: unknown) =>
        console.error(`The task '${name}' failed; the next tick tries it again:`, error),
      )
    await Promise.all(Object.entries(TASKS).map(run))
  },
} satisfies ExportedHandler<Bindings, SampleMessage>

import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { createApp } from './app.ts'
import { deleteOldDays, deleteOldReceipts, deleteOldScores } from './storage/retention.ts'
import { createDeps, type Bindings } from './deps.ts'
import { handleSamples } from './adaptation/sampling/sample-consumer.ts'
import { pepperStoredKeys } from './keys/pepper-stored-keys.ts'
import { deleteOldParts } from './storage/artifacts/mask-parts.ts'
import { tick } from './adaptation/updates/advance-update.ts'

export { ResponseCache } from './inference/cache/response-cache.ts'
export { Fleet } from './fleet/object/fleet.ts'
export { Reservoir } from './adaptation/sampling/reservoir.ts'
export { UpdateWorkflow } from './adaptation/updates/update-workflow.ts'

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

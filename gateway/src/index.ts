import { env, WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from 'cloudflare:workers'
import { runUpdateWorkflow, type UpdateWorkflowParams } from './adaptation/updates/update-workflow.ts'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { createApp } from './app.ts'
import { runScheduled } from './scheduled-tasks.ts'
import { createDeps, readOtel } from './deps.ts'
import { captureConsole } from './telemetry/console-log.ts'
import type { Bindings } from './contracts/bindings.ts'
import { consumeSamples } from './adaptation/intake/sample-consumer.ts'

export { ResponseCache } from './inference/cache/response-cache.ts'
export { Fleet } from './fleet/object/fleet.ts'
export { Reservoir } from './adaptation/sampling/reservoir.ts'

/** The workflow that advances an update when no heartbeat does. */
export class UpdateWorkflow extends WorkflowEntrypoint<Bindings, UpdateWorkflowParams> {
  override async run(
    event: Readonly<WorkflowEvent<UpdateWorkflowParams>>,
    step: WorkflowStep,
  ): Promise<void> {
    await runUpdateWorkflow(event.payload, step, () => createDeps(this.env, this.ctx))
  }
}

const app = createApp()
const consoleLog = captureConsole(console, { json: env.COPAL_LOG === 'json', otel: otelOfLogs() })

function otelOfLogs(): Pick<OtelSettings, 'logs' | 'resource'> {
  try {
    return readOtel(env)
  } catch {
    // Every request fails with the name of the variable; without this function none could.
    return { logs: null, resource: {} }
  }
}

export default {
  fetch(request, bindings, ctx) {
    const response = Promise.resolve(app.fetch(request, bindings, ctx))
    consoleLog.sendAfter(ctx, response)
    return response
  },
  queue(batch, bindings, ctx) {
    const consumed = consumeSamples(createDeps(bindings, ctx), batch)
    consoleLog.sendAfter(ctx, consumed)
    return consumed
  },
  async scheduled({ cron, scheduledTime }, bindings, ctx) {
    const done = runScheduled(createDeps(bindings, ctx), { cron, timeMs: scheduledTime })
    consoleLog.sendAfter(ctx, done)
    await done
  },
} satisfies ExportedHandler<Bindings, SampleMessage>

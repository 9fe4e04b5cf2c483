import { env, WorkflowEntrypoint, type WorkflowEvent, type WorkflowStep } from 'cloudflare:workers'
import { runUpdateWorkflow, type UpdateWorkflowParams } from './adaptation/updates/update-workflow.ts'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import type { SampleMessage } from '@copal/shared/wire/sample-message.ts'
import { appendPendingAudit, deleteOldAudit } from './audit/audit-chain.ts'
import { createApp } from './app.ts'
import {
  deleteOldUsageDays,
  deleteOldPeriods,
  deleteOldReceipts,
  deleteOldScores,
  deleteOldTombstones,
} from './storage/retention.ts'
import { createDeps, readOtel } from './deps.ts'
import { captureConsole } from './telemetry/console-log.ts'
import type { Bindings, Deps } from './contracts/bindings.ts'
import { findDomains } from './adaptation/intake/find-domains.ts'
import { consumeSamples } from './adaptation/intake/sample-consumer.ts'
import { finishDeletions } from './adaptation/domains/sample-deletion.ts'
import { deleteOldSessions } from './keys/dashboard-sessions.ts'
import { pepperStoredKeys } from './keys/pepper-stored-keys.ts'
import { expireDatasets } from './storage/artifacts/expire-datasets.ts'
import { deleteOldParts } from './storage/artifacts/mask-parts.ts'
import { deleteStaleStatistics } from './storage/artifacts/statistics-files.ts'
import { sweepArtifacts } from './storage/artifacts/sweep-artifacts.ts'
import { advanceUpdates } from './adaptation/updates/advance-update.ts'
import { watchMasks } from './adaptation/updates/mask-watch.ts'
import { advanceDetectors } from './adaptation/drift/detectors/advance-detectors.ts'
import { deleteOldDrift } from './adaptation/drift/detectors/delete-old-drift.ts'
import { endStaleProbeAlerts } from './adaptation/drift/probes/end-probe-alerts.ts'
import { refreshCounts } from './adaptation/sampling/refresh-counts.ts'
import { describeDue } from './adaptation/triggers/describe-due.ts'
import { exportMetrics } from './usage/metrics/export-metrics.ts'
import { runTriggers } from './adaptation/triggers/run-triggers.ts'

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

/** The cron triggers in `wrangler.toml`. */
const EVERY_MINUTE = '* * * * *'
const EVERY_FIVE_MINUTES = '*/5 * * * *'

/**
 * The tasks of every minute that run one after the other. Two have a node describe texts, and in parallel they would choose
 * the same ones. The third starts the update of a domain that was just found, instead of a minute later.
 */
const TASKS_IN_TURN = { findDomains, describeDue, runTriggers }

/** The other tasks of every minute. */
const MINUTE_TASKS = {
  advanceUpdates,
  watchMasks,
  advanceDetectors,
  endStaleProbeAlerts,
  finishDeletions,
  appendPendingAudit,
  exportMetrics,
}

/** The tasks of every five minutes. */
const TASKS = {
  deleteOldParts,
  deleteStaleStatistics,
  pepperStoredKeys,
  deleteOldScores,
  deleteOldTombstones,
  deleteOldSessions,
  deleteOldReceipts,
  deleteOldPeriods,
  deleteOldUsageDays,
  deleteOldAudit,
  deleteOldDrift,
  expireDatasets,
  sweepArtifacts,
  refreshCounts,
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
  async scheduled({ cron }, bindings, ctx) {
    const deps = createDeps(bindings, ctx)
    // An event of the local service names no trigger, and runs all.
    const tasks = {
      ...(cron === EVERY_FIVE_MINUTES ? {} : MINUTE_TASKS),
      ...(cron === EVERY_MINUTE ? {} : TASKS),
    }
    // A failing task must not end the event: the runtime would cancel the other tasks with it.
    const run = ([name, task]: [string, (deps: Deps) => Promise<void>]) =>
      task(deps).catch((error: unknown) =>
        console.error(`The cron task '${name}' failed; the next run retries it:`, error),
      )
    const runInTurn = async () => {
      if (cron === EVERY_FIVE_MINUTES) return
      for (const task of Object.entries(TASKS_IN_TURN)) await run(task)
    }
    const done = Promise.all([runInTurn(), ...Object.entries(tasks).map(run)])
    consoleLog.sendAfter(ctx, done)
    await done
  },
} satisfies ExportedHandler<Bindings, SampleMessage>

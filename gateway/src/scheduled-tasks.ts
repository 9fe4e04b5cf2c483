import { appendPendingAudit, deleteOldAudit } from './audit/audit-chain.ts'
import { deleteOldHistory } from './storage/history.ts'
import {
  deleteOldPeriods,
  deleteOldReceipts,
  deleteOldScores,
  deleteOldTombstones,
  deleteOldUsageDays,
} from './storage/retention.ts'
import { isCallsUsedUp, shareCalls } from './calls/call-budget.ts'
import { meterDeps } from './calls/metered-deps.ts'
import type { Deps } from './contracts/bindings.ts'
import { findDomains } from './adaptation/intake/find-domains.ts'
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

type Task = (deps: Deps) => Promise<unknown>

/** The tasks of a cron trigger, which share the calls of its event. */
export interface ScheduledTasks {
  /** How often the trigger fires. */
  periodMs: number
  /** The tasks that run one after the other. */
  sequential: Readonly<Record<string, Task>>
  /** The tasks that run beside each other and beside those. */
  together: Readonly<Record<string, Task>>
}

/**
 * The tasks by cron trigger of `wrangler.toml`: the first runs what may not wait, the second what is heavy.
 *
 * `findDomains` and `describeDue` have a node describe texts: in parallel they would choose the same ones. `runTriggers` comes
 * after them, so that it starts the update of a domain that was just found, instead of a minute later.
 */
const SCHEDULED_TASKS: Readonly<Record<string, ScheduledTasks>> = {
  '* * * * *': {
    periodMs: 60_000,
    sequential: { findDomains, describeDue, runTriggers },
    together: {
      advanceUpdates,
      watchMasks,
      advanceDetectors,
      endStaleProbeAlerts,
      finishDeletions,
      appendPendingAudit,
      exportMetrics,
    },
  },
  '*/5 * * * *': {
    periodMs: 5 * 60_000,
    sequential: {},
    together: {
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
      deleteOldHistory,
      deleteOldDrift,
      expireDatasets,
      sweepArtifacts,
      refreshCounts,
    },
  },
}

/** Runs the tasks of a cron trigger. An event of the local service names none, and runs all. */
export async function runScheduled(
  deps: Deps,
  { cron, timeMs }: { cron: string; timeMs: number },
): Promise<void> {
  const known = SCHEDULED_TASKS[cron]
  await Promise.all(
    (known ? [known] : Object.values(SCHEDULED_TASKS)).map((tasks) => runTasks(deps, tasks, timeMs)),
  )
}

/** Runs tasks, each with its share of the calls of one event. */
export async function runTasks(
  deps: Deps,
  { periodMs, sequential, together }: ScheduledTasks,
  timeMs: number,
): Promise<void> {
  const named = [...Object.entries(sequential), ...Object.entries(together)]
  const shares = shareCalls(named.length, Math.floor(timeMs / periodMs))
  // A failing task must not end the event: the runtime would cancel the other tasks with it.
  const runs = named.map(([name, task], index) => async (): Promise<void> => {
    const share = shares[index]
    if (!share) return
    try {
      await task(meterDeps(deps, share))
    } catch (error) {
      if (isCallsUsedUp(error))
        console.warn(
          `The cron task '${name}' has used its share of the calls of an event; the next run goes on.`,
        )
      else console.error(`The cron task '${name}' failed; the next run retries it:`, error)
    } finally {
      share.end()
    }
  })
  const first = Object.keys(sequential).length
  const runSequential = async (): Promise<void> => {
    for (const run of runs.slice(0, first)) await run()
  }
  await Promise.all([runSequential(), ...runs.slice(first).map((run) => run())])
}

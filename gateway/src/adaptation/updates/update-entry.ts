import { counted, formatTime, percentOf } from '@copal/shared/phrases.ts'
import type { DecisionEntry } from '@copal/shared/wire/admin-decisions.ts'
import type { UpdateEntry, UpdateJob, UpdateState } from '@copal/shared/wire/admin.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import type { DecisionRow } from '../../storage/db/queries/decision-queries.ts'
import type { JobState } from '../../storage/db/queries/job-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { DESCRIBE_MS } from './collect-step.ts'

/** Progress of an update when its calibration begins and ends, and when its evaluation ends. */
const CALIBRATION_BEGINS = 0.05
const CALIBRATION_ENDS = 0.65
const EVALUATION_ENDS = 0.95
const AFTER_EVALUATION: ReadonlySet<UpdateState> = new Set(['confirming', 'canary', 'promoting'])

/**
 * Describes an update for the admin API.
 *
 * @param jobs its jobs
 * @param of.decisions what was decided about it; left out in lists, as the jobs are then
 * @param of.model its model, which holds the canary of the update
 * @param of.forceable whether an operator can force it; left out in lists
 */
export function updateEntry(
  update: UpdateRow,
  jobs: readonly JobState[],
  {
    decisions,
    model,
    forceable,
  }: {
    decisions?: readonly DecisionRow[]
    model?: ModelRow | undefined
    forceable?: boolean | undefined
  } = {},
): UpdateEntry {
  const current = jobs.find(({ state }) => state === 'running')
  return {
    id: update.id,
    model: update.model,
    domains: update.domains,
    method: update.method,
    pattern: update.pattern,
    patterns: update.patterns,
    scope: update.scope,
    state: update.state,
    progress: progressOf(update, jobs),
    message: messageOf(update, current, model),
    mask_version: update.maskVersion,
    parent_version: update.parentVersion,
    candidate: update.candidate,
    error:
      update.errorCode === null || update.errorMessage === null
        ? null
        : { code: update.errorCode, message: update.errorMessage },
    trigger: update.trigger,
    own_domain: update.ownDomain,
    trigger_reason: update.triggerReason,
    created_at: new Date(update.createdAt).toISOString(),
    finished_at: update.finishedAt === null ? null : new Date(update.finishedAt).toISOString(),
    ended_in: update.endedIn,
    job: current ? jobEntry(current) : null,
    ...(forceable === undefined ? {} : { forceable }),
    ...(decisions ? { jobs: jobs.map(jobOfUpdate), decisions: decisions.map(decisionEntry) } : {}),
  }
}

function decisionEntry(decision: DecisionRow): DecisionEntry {
  const { kind, verdict, reason, maskVersion, actor, createdAt, figures } = decision
  return {
    kind,
    verdict,
    reason,
    mask_version: maskVersion,
    actor,
    created_at: new Date(createdAt).toISOString(),
    figures,
  }
}

function jobEntry({ progress, message, nodeId, attempts }: JobState): UpdateEntry['job'] {
  return { state: 'running', progress, message, node: nodeId, attempt: attempts }
}

function jobOfUpdate(job: JobState): UpdateJob {
  return {
    kind: job.kind,
    state: job.state,
    progress: job.progress,
    node: job.nodeId,
    created_at: new Date(job.createdAt).toISOString(),
    started_at: job.handedAt === null ? null : new Date(job.handedAt).toISOString(),
    reported_at: job.seenAt === null ? null : new Date(job.seenAt).toISOString(),
  }
}

/** Computes progress from the stored results, so that an update that failed keeps the progress it had. */
function progressOf(update: UpdateRow, jobs: readonly JobState[]): number {
  if (update.state === 'promoted' || update.state === 'rolled_back') return 1
  const done = (kind: JobState['kind']): number => {
    const progress = jobs.filter((job) => job.kind === kind).map((job) => job.progress)
    return progress.length === 0 ? 0 : progress.reduce((sum, value) => sum + value, 0) / progress.length
  }
  if (update.state === 'collecting')
    return CALIBRATION_BEGINS * ((update.datasets?.length ?? 0) / update.domains.length)
  if (update.datasets === null) return 0
  if (update.maskVersion === null)
    return CALIBRATION_BEGINS + (CALIBRATION_ENDS - CALIBRATION_BEGINS) * done('calibrate')
  // Evaluations that a confirmation queues begin anew.
  if (AFTER_EVALUATION.has(update.endedIn ?? update.state)) return EVALUATION_ENDS
  return CALIBRATION_ENDS + (EVALUATION_ENDS - CALIBRATION_ENDS) * done('evaluate')
}

function messageOf(update: UpdateRow, current: JobState | undefined, model: ModelRow | undefined): string {
  switch (update.state) {
    case 'collecting':
      // Scoring takes almost all of the time: 49 s of 49 s where a node on two busy processors scored 24 texts.
      return (
        `collecting texts of ${update.domains.join(', ')}; scoring those of clients, to leave out outliers, ` +
        `takes up to ${DESCRIBE_MS / 1000} s`
      )
    case 'calibrating':
    case 'evaluating':
      return current?.message ?? `${UPDATE_STATES[update.state]}: waiting for a node`
    case 'confirming':
      return current?.message ?? `another node selects m${update.maskVersion} again: waiting for a node`
    case 'canary':
      return canaryMessage(update, model)
    case 'promoting':
      return `waiting until every live node serves m${update.maskVersion}`
    case 'promoted':
      return `m${update.maskVersion} was promoted`
    case 'rolled_back':
      return `m${update.maskVersion} was rolled back`
    case 'failed':
      return update.errorMessage ?? 'failed'
    case 'cancelled':
      return 'cancelled'
  }
}

function canaryMessage({ id, maskVersion }: UpdateRow, model: ModelRow | undefined): string {
  const mask = `m${maskVersion}`
  const { canary } = model ? trialsInForce(model) : {}
  if (canary?.updateId !== id) {
    const watch = model?.watch?.version === model?.activeVersion ? model?.watch : undefined
    return watch
      ? `${mask} becomes a canary when m${watch.version} is no longer watched, at ${formatTime(watch.untilMs)}`
      : `${mask} becomes a canary`
  }
  const requests = canary.evidence?.requests ?? 0
  const scored =
    requests > 0
      ? `${counted(requests, 'request')} ${requests === 1 ? 'was' : 'were'} scored under both masks`
      : 'no request was scored under both masks yet; only requests that may be sampled are'
  return `${mask} is a canary: it answers ${percentOf(canary.share)} of the conversations; ${scored}`
}

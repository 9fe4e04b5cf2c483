import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { changeJob, listOpenJobs, type JobRow } from '../../storage/db/queries/job-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { advanceUpdates } from './advance-update.ts'
import type { StepDeps } from './update-step.ts'

type JobDeps = Pick<Deps, 'db' | 'nowMs'>

/** A node that reports nothing of its job for so long has lost it. */
const LOST_MS = 15_000
/** A job that was lost so often is what loses nodes. */
const MAX_ATTEMPTS = 5
/** A job whose method nobody offers waits so long for a node that does. */
const FORSAKEN_MS = 60_000

/**
 * Advances the model's updates, and hands out work: the jobs that the node shall be running now, one at a time.
 *
 * A job whose node has been silent about it for 15 s, or came back without knowing of it, is handed out again,
 * five times at most. A draining node keeps what it has and gets nothing new; a node
 * that does not offer the method of a calibration is not asked for it.
 */
export async function jobsForNode(deps: StepDeps, heartbeat: Heartbeat): Promise<Job[]> {
  await advanceUpdates(deps, heartbeat.model.id)
  const open = await listOpenJobs(deps.db, heartbeat.model.id)
  const kept: Job[] = []
  const lost: JobRow[] = []
  for (const job of open) {
    if (job.state === 'queued') continue
    if (isLost(job, heartbeat, deps.nowMs())) lost.push(job)
    else if (job.nodeId === heartbeat.nodeId) kept.push(job.payload)
  }
  if (kept.length > 0 || heartbeat.draining) return kept
  for (const job of open) {
    if (job.state !== 'queued' && !lost.includes(job)) continue
    // A job that this node just reported as over must be missing from the answer once, or it would not begin anew.
    if (heartbeat.jobs.some(({ id, state }) => id === job.id && state !== 'running')) continue
    if (!(await canDo(deps, heartbeat, job.payload)) && !(await isForsaken(deps, job))) continue
    if (job.attempts >= MAX_ATTEMPTS) await giveUp(deps, job)
    else if (await handOut(deps, job, heartbeat.nodeId)) return [job.payload]
  }
  return []
}

/**
 * No living node offers the method of a calibration, and none came in a minute: any node may then say what is wrong
 * with it, so that the update fails instead of waiting for ever.
 */
async function isForsaken(deps: Pick<StepDeps, 'fleet' | 'nowMs'>, job: JobRow): Promise<boolean> {
  if (job.payload.kind !== 'calibrate' || deps.nowMs() - job.createdAt < FORSAKEN_MS) return false
  const offered = await deps.fleet.offeredMethods(job.model)
  return !offered?.includes(job.payload.selection.method)
}

/** Whether a node offers the method of a job; others are left to nodes that do. */
async function canDo(deps: Pick<StepDeps, 'fleet'>, heartbeat: Heartbeat, job: Job): Promise<boolean> {
  if (job.kind !== 'calibrate') return true
  const methods = heartbeat.methods ?? (await deps.fleet.methodsOf(heartbeat.nodeId))
  return methods.includes(job.selection.method)
}

/** Silence tells; for the node itself, so does a heartbeat without a job that it reported before: it was restarted. */
function isLost(job: JobRow, heartbeat: Heartbeat, nowMs: number): boolean {
  if (nowMs - (job.seenAt ?? job.handedAt ?? 0) >= LOST_MS) return true
  return (
    job.nodeId === heartbeat.nodeId && job.seenAt !== null && !heartbeat.jobs.some(({ id }) => id === job.id)
  )
}

function handOut(deps: JobDeps, job: JobRow, nodeId: string): Promise<boolean> {
  return changeJob(deps.db, job, {
    state: 'running',
    nodeId,
    handedTo: [...new Set([...job.handedTo, nodeId])],
    attempts: job.attempts + 1,
    handedAt: deps.nowMs(),
    seenAt: null,
    progress: 0,
    message: `handed to node ${nodeId}`,
  })
}

async function giveUp(deps: JobDeps, job: JobRow): Promise<void> {
  await changeJob(deps.db, job, {
    state: 'failed',
    errorCode: 'node_failed',
    errorMessage:
      `Gave up after ${job.attempts} attempts: each time the node fell silent or came back without the job, ` +
      `the last time node '${job.nodeId}' at '${job.message}'. See the log of that node.`,
  })
}

import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { changeJob, listOpenJobs, type JobRow } from '../../storage/db/queries/job-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { wholeJob } from './calibration-input.ts'
import { countStalls, MAX_STALLS } from './job-losses.ts'
import { isForOtherNodes } from './job-nodes.ts'
import type { StepDeps } from './update-step.ts'

type JobDeps = Pick<Deps, 'db' | 'nowMs'>

/** A job counts as lost when its node has not reported it for this time. */
const JOB_SILENCE_TIMEOUT_MS = 15_000
/** How long a calibration waits for a node that offers its method. */
const METHOD_WAIT_MS = 60_000

/**
 * Returns the jobs that a node should run now, one at a time.
 *
 * A job is assigned again if its node has not reported it for 15 s or was restarted. It fails after five losses in a row
 * that got no further than an attempt before; so a long job may be lost more often, as long as it advances. A draining
 * node keeps its job and gets no new one. A calibration is assigned only to a node that offers its method, if there is one,
 * and a job is assigned to a node that it avoids only while no other one is alive. One on which another job has failed of late comes
 * after those, and one that it has failed on last.
 */
export async function jobsForNode(deps: StepDeps, heartbeat: Heartbeat): Promise<Job[]> {
  const open = await listOpenJobs(deps.db, heartbeat.model.id)
  const running = open.filter(({ state }) => state !== 'queued')
  const lost = running.filter((job) => isLost(job, heartbeat, deps.nowMs()))
  const own = running.filter((job) => job.nodeId === heartbeat.nodeId && !lost.includes(job))
  if (own.length > 0 || heartbeat.draining)
    return Promise.all(
      own.map(async (job) => (isKnown(job, heartbeat) ? knownJob(job.payload) : wholeJob(deps, job))),
    )
  for (const job of open.filter((one) => one.state === 'queued' || lost.includes(one))) {
    if (!(await mayRun(deps, heartbeat, job))) continue
    const losses = lost.includes(job) ? countStalls(job) : { stalls: job.stalls }
    if (losses.stalls >= MAX_STALLS) await failJob(deps, job, losses.stalls)
    else if (await assignJob(deps, job, heartbeat.nodeId, losses)) return [await wholeJob(deps, job)]
  }
  return []
}

/** Returns whether a node may get a job that no node runs. */
async function mayRun(deps: StepDeps, heartbeat: Heartbeat, job: JobRow): Promise<boolean> {
  // A job that this node reports as ended must be absent from one response before the node can start it again.
  if (heartbeat.jobs.some(({ id, state }) => id === job.id && state !== 'running')) return false
  if (!(await offersMethod(deps, heartbeat, job.payload)) && !(await isMethodUnavailable(deps, job)))
    return false
  return !(await isForOtherNodes(deps, job, heartbeat.nodeId))
}

/**
 * Returns a job for the node that runs it, which reads only its id. What grows with the domains is left out, because every response
 * to a heartbeat lists the job.
 */
function knownJob(job: Job): Job {
  if (job.kind === 'evaluate') return { ...job, holdouts: [] }
  const { statistics: _, ...rest } = job
  const { method, pattern, scope } = job.selection
  return { ...rest, datasets: [], accumulated: [], selection: { method, pattern, scope } }
}

/**
 * Returns whether no live node has offered the method of a calibration for a minute. Any node may then get the job and
 * reject it, so that the update fails instead of waiting for ever.
 */
async function isMethodUnavailable(deps: Pick<StepDeps, 'fleet' | 'nowMs'>, job: JobRow): Promise<boolean> {
  if (job.payload.kind !== 'calibrate' || deps.nowMs() - job.createdAt < METHOD_WAIT_MS) return false
  const offered = await deps.fleet.offeredMethods(job.model)
  return !offered?.includes(job.payload.selection.method)
}

/** Returns whether a node offers the method of a job. */
async function offersMethod(deps: Pick<StepDeps, 'fleet'>, heartbeat: Heartbeat, job: Job): Promise<boolean> {
  if (job.kind !== 'calibrate') return true
  const { nodeId, methods } = heartbeat
  const { method } = job.selection
  return methods?.includes(method) ?? (await deps.fleet.nodesWithMethod([nodeId], method)).length > 0
}

/** A job is lost when its node is silent about it, or was restarted: then its heartbeat lacks a job reported before. */
function isLost(job: JobRow, heartbeat: Heartbeat, nowMs: number): boolean {
  if (nowMs - (job.seenAt ?? job.handedAt ?? 0) >= JOB_SILENCE_TIMEOUT_MS) return true
  return job.nodeId === heartbeat.nodeId && job.seenAt !== null && !isKnown(job, heartbeat)
}

/** Returns whether a node reports a job, so that it has it. */
function isKnown({ id }: JobRow, { jobs }: Heartbeat): boolean {
  return jobs.some((report) => report.id === id)
}

function assignJob(
  deps: JobDeps,
  job: JobRow,
  nodeId: string,
  losses: Partial<Pick<JobRow, 'stalls' | 'bestProgress'>>,
): Promise<boolean> {
  return changeJob(deps.db, job, {
    ...losses,
    state: 'running',
    nodeId,
    handedTo: [...new Set([...job.handedTo, nodeId])],
    attempts: job.attempts + 1,
    handedAt: deps.nowMs(),
    seenAt: null,
    progress: 0,
    message: `assigned to node ${nodeId}`,
  })
}

async function failJob(deps: JobDeps, job: JobRow, stalls: number): Promise<void> {
  await changeJob(deps.db, job, {
    state: 'failed',
    errorCode: 'node_failed',
    errorMessage:
      `The job failed in attempt ${job.attempts}: ${stalls} times in a row its node stopped reporting or restarted before ` +
      `the job got further, the last time node '${job.nodeId}' at '${job.message}'. See the log of that node.`,
  })
}

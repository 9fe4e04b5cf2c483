import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import { findJobs, insertJobs, type JobRow } from '../../storage/db/queries/job-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { stepTraceparent } from './update-spans.ts'
import type { Step, StepDeps, StepOutcome } from './update-step.ts'

/** A job that has ended with a result. */
export interface FinishedJob {
  job: JobRow
  result: NonNullable<JobRow['result']>
}

/** The two halves of a step that waits for jobs of nodes. */
export interface JobStep {
  /** Ids of the jobs of an update: first the one that shows that `start` has run, then those that it may queue. */
  readonly jobIds: (update: UpdateRow) => string[]
  /** Ids of those without whose results the step goes on if they fail; none if left out. */
  readonly optionalJobIds?: (update: UpdateRow) => string[]
  /** Queues the jobs. */
  readonly start: (deps: StepDeps, update: UpdateRow) => Promise<void>
  /** Uses the results of the jobs, in the order of `jobIds`; undefined if a job has to run again. */
  readonly finish: (
    deps: StepDeps,
    update: UpdateRow,
    jobs: FinishedJob[],
  ) => Promise<StepOutcome | undefined>
}

/** Creates the step that queues jobs, waits until all of them have ended, and uses their results. */
export function stepOfJobs({ jobIds, optionalJobIds = () => [], start, finish }: JobStep): Step {
  return async (deps, update) => {
    const optional = optionalJobIds(update)
    const ids = jobIds(update)
    const found = await findJobs(deps.db, ids)
    const jobs = ids.flatMap((id) => found.find((job) => job.id === id) ?? [])
    if (jobs[0]?.id !== ids[0]) {
      await start(deps, update)
      return undefined
    }
    const awaited = jobs.filter(({ id, state }) => state !== 'failed' || !optional.includes(id))
    const finished = awaited.flatMap((job) => {
      const result = jobResult(job)
      return result ? [{ job, result }] : []
    })
    return finished.length === awaited.length ? finish(deps, update, finished) : undefined
  }
}

/** The parts of an update that name the jobs of its current candidate. */
type Candidate = Pick<UpdateRow, 'id' | 'candidate'>

/** Returns the id of the job that selects an update's current candidate. */
export function calibrateJobId({ id, candidate }: Candidate): string {
  return `${id}-calibrate${suffix(candidate)}`
}

/** Returns the id of the job that evaluates an update's current candidate. */
export function evaluateJobId({ id, candidate }: Candidate): string {
  return `${id}-evaluate${suffix(candidate)}`
}

/**
 * Returns the ids of the jobs that evaluate the parent on holdouts without such an evaluation, in the order in which they are queued:
 * the second only where what is known has other numerics than the candidate's evaluation.
 */
export function evaluateParentJobIds({ id }: Pick<UpdateRow, 'id'>): string[] {
  return [`${id}-parent`, `${id}-parent-2`]
}

/** Returns the ids of the jobs that evaluate the dense model, as {@link evaluateParentJobIds} does for the parent. */
export function evaluateDenseJobIds({ id }: Pick<UpdateRow, 'id'>): string[] {
  return [`${id}-dense`, `${id}-dense-2`]
}

/** Returns the ids of the jobs that evaluate earlier masks on current versions of holdouts, in the order in which they are queued. */
export function evaluateBestJobIds({ id }: Pick<UpdateRow, 'id'>): string[] {
  return [`${id}-best`, `${id}-best-2`, `${id}-best-3`]
}

/** Returns the id of the job in which another node selects the current candidate again. */
export function confirmJobId({ id, candidate }: Candidate): string {
  return `${id}-confirm-${candidate}`
}

/** Returns the id of the job that evaluates the mask of {@link confirmJobId} if it differs. */
export function evaluateConfirmedJobId({ id, candidate }: Candidate): string {
  return `${id}-confirm-evaluate-${candidate}`
}

/** The first candidate has the ids that updates had before there were several. */
function suffix(candidate: number): string {
  return candidate === 1 ? '' : `-${candidate}`
}

/** A job that is to be queued. */
export interface NewJob {
  work: Job
  /** Nodes that get it only while no other node is alive. */
  avoidNodes?: readonly string[]
}

/**
 * Queues jobs of an update in one transaction, except those whose id exists. They may take the share of a node's time that the policy
 * allows.
 */
export async function queueJobs(
  deps: Pick<StepDeps, 'db' | 'nowMs' | 'adaptationPreset' | 'telemetry'>,
  update: UpdateRow,
  jobs: readonly NewJob[],
): Promise<void> {
  if (jobs.length === 0) return
  const { effort } = await findPolicy(deps, update.model)
  const traced = deps.telemetry.settings.traces ? { traceparent: await stepTraceparent(update) } : {}
  const rows = jobs.map(({ work, avoidNodes = [] }) => ({
    id: work.id,
    updateId: update.id,
    model: update.model,
    kind: work.kind,
    payload: { ...work, nodeShare: effort.node_share, ...traced },
    state: 'queued' as const,
    avoidNodes: [...avoidNodes],
    createdAt: deps.nowMs(),
  }))
  await insertJobs(deps.db, rows)
}

/**
 * Returns the result of a job, or null while it is open.
 *
 * @throws AppError the error that the node reported for a failed job
 */
function jobResult(job: JobRow): JobRow['result'] {
  if (job.state === 'done') return job.result
  if (job.state !== 'failed') return null
  const message =
    job.errorMessage ?? `Job ${job.id} failed, and the node gave no reason. See the log of the node.`
  throw parseErrorBody({ error: { code: job.errorCode, message } }) ?? new AppError('node_failed', message)
}

/** Returns the numerics of the weights that a job measured; null where its node does not name them. */
export function jobNumerics({ result }: FinishedJob): string | null {
  return (result.kind === 'evaluate' && result.numerics) || null
}

/** Creates the error for a result that does not match its job. */
export function invalidResult(job: JobRow, reason: string): AppError {
  return new AppError(
    'node_failed',
    `Node '${job.nodeId}' reported an invalid result of job ${job.id}: ${reason}. Check that gateway and node have the same version.`,
  )
}

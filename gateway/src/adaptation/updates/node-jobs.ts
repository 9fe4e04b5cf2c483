import { AppError, parseErrorBody } from '@copal/shared/errors.ts'
import type { Job } from '@copal/shared/wire/adaptation-jobs.ts'
import { insertJob, type JobRow } from '../../storage/db/queries/job-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { StepDeps } from './update-step.ts'

/** Id of an update's calibration job. */
export function calibrateJobId(updateId: string): string {
  return `${updateId}-calibrate`
}

/** Id of the job that evaluates an update's mask. */
export function evaluateJobId(updateId: string): string {
  return `${updateId}-evaluate`
}

/** Id of the job that evaluates the dense model on holdouts where that was not done yet. */
export function denseJobId(updateId: string): string {
  return `${updateId}-dense`
}

/** Queues work of an update; its id tells whether it was queued before. */
export async function createJob(
  deps: Pick<StepDeps, 'db' | 'nowMs'>,
  update: UpdateRow,
  payload: Job,
): Promise<void> {
  await insertJob(deps.db, {
    id: payload.id,
    updateId: update.id,
    model: update.model,
    kind: payload.kind,
    payload,
    state: 'queued',
    createdAt: deps.nowMs(),
  })
}

/**
 * What a job came to, or null while it is open.
 *
 * @throws AppError the failure of the job, as the node told it
 */
export function resultOf(job: JobRow): JobRow['result'] {
  if (job.state === 'done') return job.result
  if (job.state !== 'failed') return null
  const message = job.errorMessage ?? `Job ${job.id} failed without a reason.`
  throw parseErrorBody({ error: { code: job.errorCode, message } }) ?? new AppError('node_failed', message)
}

/** The result of a job is not what the job asked for. */
export function wrongResult(job: JobRow, reason: string): AppError {
  return new AppError(
    'node_failed',
    `Node '${job.nodeId}' reported a result of job ${job.id} that cannot be used: ${reason}.`,
  )
}

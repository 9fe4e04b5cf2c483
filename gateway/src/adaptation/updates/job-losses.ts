import { AppError } from '@copal/shared/errors.ts'
import { requeueJob, type JobRow } from '../../storage/db/queries/job-queries.ts'
import type { StepDeps } from './update-step.ts'

/** A job that was lost this often in a row without progress fails, since it is likely the cause. */
export const MAX_STALLS = 5

/** Counts a loss. One that got further than all before is the first of a new row. */
export function countStalls({
  progress,
  bestProgress,
  stalls,
}: Pick<JobRow, 'progress' | 'bestProgress' | 'stalls'>): Pick<JobRow, 'stalls' | 'bestProgress'> {
  return progress > bestProgress
    ? { stalls: 1, bestProgress: progress }
    : { stalls: stalls + 1, bestProgress }
}

/**
 * Queues a calibration again whose mask was reported before it was uploaded, or lost since. That counts as a loss at its end.
 *
 * @throws AppError `node_failed` after the last of {@link MAX_STALLS} losses
 */
export async function repeatCalibration({ db }: Pick<StepDeps, 'db'>, job: JobRow): Promise<void> {
  const losses = countStalls(job)
  if (losses.stalls >= MAX_STALLS)
    throw new AppError(
      'node_failed',
      `Job ${job.id} was reported as done ${losses.stalls} times, the last time by node '${job.nodeId}', but its mask is not ` +
        'stored. See the log of that node for failed uploads, and check that the bucket of artifacts keeps what is stored.',
    )
  await requeueJob(db, job, losses)
}

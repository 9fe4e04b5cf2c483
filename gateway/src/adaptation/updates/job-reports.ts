import type { JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import { findJobs, type JobRow, changeJob } from '../../storage/db/queries/job-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { storedResult } from './calibration-input.ts'

/** Below D1's maximum of 100 bound parameters in a statement. */
const MAX_REPORTS = 90

type JobDeps = Pick<Deps, 'db' | 'nowMs'>

/**
 * Stores the job reports of a node.
 *
 * The first result of a job counts from any node that the job was ever handed to, since all compute the same result.
 * Other reports count only from the node that has the job now.
 */
export async function applyJobReports(
  deps: JobDeps,
  nodeId: string,
  reports: readonly JobReport[],
): Promise<void> {
  const rows = await findJobs(
    deps.db,
    reports.slice(0, MAX_REPORTS).map(({ id }) => id),
  )
  for (const job of rows) {
    const report = reports.find(({ id }) => id === job.id)
    const open = job.state === 'queued' || job.state === 'running'
    if (!open || !report) continue
    if (job.nodeId === nodeId || (report.state === 'done' && job.handedTo.includes(nodeId)))
      await applyReport(deps, nodeId, job, report)
  }
}

async function applyReport(deps: JobDeps, nodeId: string, job: JobRow, report: JobReport): Promise<void> {
  const { state, progress, message, result, error } = report
  const heard = { seenAt: deps.nowMs(), message }
  if (state === 'running') {
    await changeJob(deps.db, job, { ...heard, progress })
  } else if (state === 'cancelled') {
    // The gateway did not cancel it: the node is stopping, and another one takes over.
    await changeJob(deps.db, job, { ...heard, state: 'queued', nodeId: null })
  } else if (state === 'done' && result?.kind === job.kind) {
    const stored = await storedResult(deps, job, result)
    await changeJob(deps.db, job, { ...heard, state: 'done', progress: 1, nodeId, result: stored })
  } else {
    const unexplained = {
      code: 'node_failed',
      message: `Node '${nodeId}' ended job ${job.id} without a result or an error. See the log of that node.`,
    }
    const { code: errorCode, message: errorMessage } = error ?? unexplained
    await changeJob(deps.db, job, { ...heard, state: 'failed', nodeId, errorCode, errorMessage })
  }
}

import type { JobReport } from '@copal/shared/wire/adaptation-jobs.ts'
import { findJobs, type JobRow, changeJob } from '../../storage/db/queries/job-queries.ts'
import { recordFailedJob } from '../../audit/failed-jobs.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { storedResult } from './calibration-input.ts'
import { avoidedAfterFailure, isFaultOfNode } from './job-nodes.ts'

/** Below D1's maximum of 100 bound parameters in a statement. */
const MAX_REPORTS = 90

type JobDeps = Pick<Deps, 'db' | 'fleet' | 'nowMs' | 'adaptationPreset'>

/**
 * Stores the job reports of a node.
 *
 * The first result of a job counts from any node that the job was ever handed to, since all compute the same result.
 * Other reports count only from the node that has the job now. A job that fails for a reason of its node, such as a full disk,
 * goes to another live node if there is one.
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
    const { code: errorCode, message: reason } = error ?? unexplained
    const isNamed = !isFaultOfNode(errorCode) || reason.includes(`'${nodeId}'`)
    const errorMessage = isNamed ? reason : `Node '${nodeId}' reports: ${reason}`
    const failure = { nodeId, code: errorCode, reason, errorMessage }
    if (isFaultOfNode(errorCode) && (await moveToOtherNode(deps, job, failure))) return
    const failed = { ...heard, state: 'failed', nodeId, errorCode, errorMessage } as const
    if ((await changeJob(deps.db, job, failed)) && isFaultOfNode(errorCode))
      await recordFailedJob(deps, nodeId, { job: job.id, code: errorCode, reason })
  }
}

/** The failure of a job, as its node reports it. */
interface JobFailure {
  nodeId: string
  code: string
  /** The message of the node. */
  reason: string
  /** The reason, which names the node. */
  errorMessage: string
}

/** Queues a job for other nodes than one that it has failed on, and keeps the error. Returns false if there is none. */
async function moveToOtherNode(deps: JobDeps, job: JobRow, failure: JobFailure): Promise<boolean> {
  const { nodeId, code, reason, errorMessage } = failure
  const avoidNodes = await avoidedAfterFailure(deps, job, nodeId)
  if (!avoidNodes) return false
  const queued = {
    state: 'queued',
    nodeId: null,
    avoidNodes,
    progress: 0,
    bestProgress: 0,
    stalls: 0,
    message: '',
    errorMessage,
  } as const
  if (!(await changeJob(deps.db, job, queued))) return true
  console.warn(`Job ${job.id} failed on node '${nodeId}' (${code}) and goes to another node: ${reason}`)
  await recordFailedJob(deps, nodeId, { job: job.id, code, reason })
  return true
}

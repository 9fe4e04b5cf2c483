import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import type { Deps } from '../contracts/bindings.ts'
import { findLastActions } from '../storage/db/queries/audit-queries.ts'
import { recordAudit } from './record-audit.ts'

const JOB_FAILED = 'node.job_failed'

/** The last job that failed on a node. */
type FailedJob = NonNullable<NodeEntry['last_failed_job']>

/** The field `after` of the audit row of a failed job. */
interface FailedJobAfter {
  job: string
  error: string
}

/** Records a job that failed for a reason which may be that of its node. A job goes on without the record: it is logged then. */
export async function recordFailedJob(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  nodeId: string,
  { job, code, reason }: Omit<FailedJob, 'at'>,
): Promise<void> {
  const after: FailedJobAfter = { job, error: code }
  const entry = { actor: `node:${nodeId}`, action: JOB_FAILED, target: nodeId, after, reason }
  await recordAudit(deps, entry).catch((error: unknown) =>
    console.error(`The failure of job ${job} on node '${nodeId}' is missing in the audit log:`, error),
  )
}

/** Returns the last job that failed on each of some nodes, by the name of the node. */
export async function lastFailedJobs(
  { db }: Pick<Deps, 'db'>,
  nodeIds: readonly string[],
): Promise<Map<string, FailedJob>> {
  const recorded = await findLastActions(db, JOB_FAILED, nodeIds)
  return new Map(
    [...recorded].map(([nodeId, { after, reason, createdAt }]) => {
      const { job, error: code } = after as FailedJobAfter
      return [nodeId, { at: new Date(createdAt).toISOString(), job, code, reason }]
    }),
  )
}

// Shell so that the Worker loads until the adaptation engineer writes this file: overwrite it.
import type { Heartbeat, Job, JobReport } from '@copal/shared/wire/node-rpc.ts'
import type { Deps } from '../deps.ts'

export async function applyJobReports(_deps: Deps, _nodeId: string, _reports: readonly JobReport[]): Promise<void> {}
export async function jobsForNode(_deps: Deps, _heartbeat: Heartbeat): Promise<Job[]> {
  return []
}

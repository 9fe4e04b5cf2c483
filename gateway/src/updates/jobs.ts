import type { Heartbeat, Job, JobReport } from '@copal/shared/wire/node-rpc.ts'
import type { Deps } from '../deps.ts'

/** Stores what a node reports of its jobs, and advances the updates whose jobs ended. */
export async function applyJobReports(deps: Deps, nodeId: string, reports: readonly JobReport[]): Promise<void> {
  await Promise.resolve([deps, nodeId, reports])
}

/** The jobs that a node shall be running now. */
export async function jobsForNode(deps: Deps, heartbeat: Heartbeat): Promise<Job[]> {
  await Promise.resolve([deps, heartbeat])
  return []
}

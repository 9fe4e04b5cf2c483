import type { JobRow } from '../../storage/db/queries/job-queries.ts'
import { liveNodes } from './trial-check.ts'
import type { StepDeps } from './update-step.ts'

/** Nodes on which a job may fail before its update does. More would only take their time: the job is likely the cause. */
const MAX_FAILED_NODES = 3

/** Error codes of what a node fails for reasons of its own, such as a full disk, or too little memory for its process. */
const FAULTS_OF_NODES: ReadonlySet<string> = new Set(['internal_error', 'node_failed'])

/** The parts of a job that decide which nodes get it. */
type AssignedJob = Pick<JobRow, 'model' | 'payload' | 'avoidNodes' | 'handedTo'>

/** Returns whether an error of a job may be due to its node. */
export function isFaultOfNode(code: string): boolean {
  return FAULTS_OF_NODES.has(code)
}

/**
 * Returns the nodes that a job avoids after it has failed on one, if another live node can take it.
 *
 * @returns undefined if none can, or it has failed on {@link MAX_FAILED_NODES} nodes
 */
export async function avoidedAfterFailure(
  deps: Pick<StepDeps, 'fleet'>,
  job: AssignedJob,
  nodeId: string,
): Promise<string[] | undefined> {
  const avoidNodes = [...new Set([...job.avoidNodes, nodeId])]
  const failed = avoidNodes.filter((id) => job.handedTo.includes(id))
  if (failed.length >= MAX_FAILED_NODES) return undefined
  return (await isForOtherNodes(deps, { ...job, avoidNodes }, nodeId)) ? avoidNodes : undefined
}

/** Returns whether a live node that can take a job is to have it rather than `nodeId`. */
export async function isForOtherNodes(
  deps: Pick<StepDeps, 'fleet'>,
  job: AssignedJob,
  nodeId: string,
): Promise<boolean> {
  const own = avoidance(job, nodeId)
  if (own === 0) return false
  for (const { id } of await liveNodes(deps, job.model)) {
    if (avoidance(job, id) >= own) continue
    const { payload } = job
    if (payload.kind !== 'calibrate' || (await deps.fleet.methodsOf(id)).includes(payload.selection.method))
      return true
  }
  return false
}

/** Returns how much a job avoids a node: 0 for not at all, and most if it has failed there. */
function avoidance({ avoidNodes, handedTo }: AssignedJob, nodeId: string): 0 | 1 | 2 {
  if (!avoidNodes.includes(nodeId)) return 0
  return handedTo.includes(nodeId) ? 2 : 1
}

import type { JobRow } from '../../storage/db/queries/job-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
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
 * Returns the nodes that a job avoids after it has failed on one, if another live node can take it. A confirmation by a second node,
 * where the policy demands it, is not for the node that selected the mask: that would take a whole selection and confirm nothing.
 *
 * @returns undefined if none can, or it has failed on {@link MAX_FAILED_NODES} nodes
 */
export async function avoidedAfterFailure(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'adaptationPreset'>,
  job: AssignedJob,
  nodeId: string,
): Promise<string[] | undefined> {
  const avoidNodes = [...new Set([...job.avoidNodes, nodeId])]
  const failed = avoidNodes.filter((id) => job.handedTo.includes(id))
  if (failed.length >= MAX_FAILED_NODES) return undefined
  const moved = { ...job, avoidNodes }
  const bound = (await needsSecondNode(deps, job)) ? 1 : avoidance(moved, nodeId)
  return (await hasNodeBelow(deps, moved, bound)) ? avoidNodes : undefined
}

/**
 * Returns whether a live node that can take a job is to have it rather than `nodeId`. A confirmation by a second node, where the policy
 * demands it, waits for one also after a second one was lost.
 */
export async function isForOtherNodes(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'adaptationPreset'>,
  job: AssignedJob,
  nodeId: string,
): Promise<boolean> {
  const own = avoidance(job, nodeId)
  return own > 0 && ((await needsSecondNode(deps, job)) || (await hasNodeBelow(deps, job, own)))
}

/** Returns whether a job is a confirmation that another node than the selecting one must do. */
async function needsSecondNode(
  deps: Pick<StepDeps, 'db' | 'adaptationPreset'>,
  { model, payload }: AssignedJob,
): Promise<boolean> {
  if (payload.kind !== 'calibrate' || payload.compareWith === undefined) return false
  return (await findPolicy(deps, model)).confirm === 2
}

/** Returns whether a live node that can take a job is avoided less than `bound`. */
async function hasNodeBelow(
  deps: Pick<StepDeps, 'fleet'>,
  job: AssignedJob,
  bound: Avoidance,
): Promise<boolean> {
  if (bound === 0) return false
  for (const { id } of await liveNodes(deps, job.model)) {
    if (avoidance(job, id) >= bound) continue
    const { payload } = job
    if (payload.kind !== 'calibrate' || (await deps.fleet.methodsOf(id)).includes(payload.selection.method))
      return true
  }
  return false
}

/** How much a job avoids a node: 0 for not at all, and most if it has failed there. */
type Avoidance = 0 | 1 | 2

/** Returns how much a job avoids a node. */
function avoidance({ avoidNodes, handedTo }: AssignedJob, nodeId: string): Avoidance {
  if (!avoidNodes.includes(nodeId)) return 0
  return handedTo.includes(nodeId) ? 2 : 1
}

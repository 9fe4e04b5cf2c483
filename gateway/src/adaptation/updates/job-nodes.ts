import type { JobRow } from '../../storage/db/queries/job-queries.ts'
import { lastFailedJobs } from '../../audit/failed-jobs.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { liveNodes } from './trial-check.ts'
import type { StepDeps } from './update-step.ts'

/** Nodes on which a job may fail before its update does. More would only take their time: the job is likely the cause. */
const MAX_FAILED_NODES = 3

/** How long another node is preferred to one on which a job has failed. */
const RECENT_MS = 30 * 60_000

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
  return (await hasNodeBelow(deps, moved, bound, await liveIds(deps, job))) ? avoidNodes : undefined
}

/**
 * Returns whether a live node that can take a job is to have it rather than `nodeId`. A confirmation by a second node, where the policy
 * demands it, waits for one also after a second one was lost.
 */
export async function isForOtherNodes(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'nowMs' | 'adaptationPreset'>,
  job: AssignedJob,
  nodeId: string,
): Promise<boolean> {
  const live = await liveIds(deps, job)
  if (live.every((id) => id === nodeId) && !isConfirmation(job)) return false
  const failed = isConfirmation(job) ? undefined : await recentlyFailed(deps, [...live, nodeId])
  const own = avoidance(job, nodeId, failed)
  return own > 0 && ((await needsSecondNode(deps, job)) || (await hasNodeBelow(deps, job, own, live, failed)))
}

/** Returns those of some nodes on which a job has failed of late. */
async function recentlyFailed(
  deps: Pick<StepDeps, 'db' | 'nowMs'>,
  nodeIds: readonly string[],
): Promise<Set<string>> {
  const sinceMs = deps.nowMs() - RECENT_MS
  const failed = await lastFailedJobs(deps, nodeIds)
  return new Set([...failed].flatMap(([nodeId, { at }]) => (Date.parse(at) >= sinceMs ? nodeId : [])))
}

/** Returns the nodes of a job's model that are alive and take work. */
async function liveIds(deps: Pick<StepDeps, 'fleet'>, { model }: AssignedJob): Promise<string[]> {
  return (await liveNodes(deps, model)).map(({ id }) => id)
}

/** Returns whether a job selects a mask again that a node has selected. */
function isConfirmation({ payload }: AssignedJob): boolean {
  return payload.kind === 'calibrate' && payload.compareWith !== undefined
}

/** Returns whether a job is a confirmation that another node than the selecting one must do. */
async function needsSecondNode(
  deps: Pick<StepDeps, 'db' | 'adaptationPreset'>,
  job: AssignedJob,
): Promise<boolean> {
  return isConfirmation(job) && (await findPolicy(deps, job.model)).confirm === 2
}

/** Returns whether one of some nodes can take a job and is avoided less than `bound`. */
async function hasNodeBelow(
  deps: Pick<StepDeps, 'fleet'>,
  job: AssignedJob,
  bound: Avoidance,
  nodeIds: readonly string[],
  failed?: ReadonlySet<string>,
): Promise<boolean> {
  const { payload } = job
  const below = nodeIds.filter((id) => avoidance(job, id, failed) < bound)
  if (below.length === 0 || payload.kind !== 'calibrate') return below.length > 0
  return (await deps.fleet.nodesWithMethod(below, payload.selection.method)).length > 0
}

/** How much a job avoids a node: 0 for not at all, 2 if another job has failed there of late, and 3 if it has failed there itself. */
type Avoidance = 0 | 1 | 2 | 3

/**
 * Returns how much a job avoids a node.
 *
 * @param failed nodes on which a job has failed of late
 */
function avoidance(
  { avoidNodes, handedTo }: AssignedJob,
  nodeId: string,
  failed?: ReadonlySet<string>,
): Avoidance {
  const isAvoided = avoidNodes.includes(nodeId)
  if (isAvoided && handedTo.includes(nodeId)) return 3
  if (failed?.has(nodeId) === true) return 2
  return isAvoided ? 1 : 0
}

/** The nodes that measure losses as others were measured, so that the two can be compared. */
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import { liveNodes } from './trial-check.ts'
import { jobNumerics, type FinishedJob } from './update-jobs.ts'
import type { StepDeps } from './update-step.ts'

/**
 * Returns the nodes that a measurement avoids whose losses are compared with those of an ended job: all but the node of that job, or,
 * where it is gone, those that do not report its numerics.
 */
export async function nodesUnlike(deps: Pick<StepDeps, 'fleet'>, ended: FinishedJob): Promise<string[]> {
  const { model, nodeId } = ended.job
  const ids = (await liveNodes(deps, model)).map(({ id }) => id)
  if (nodeId !== null && ids.includes(nodeId)) return ids.filter((id) => id !== nodeId)
  const numerics = jobNumerics(ended)
  return numerics === null ? [] : nodesOfOtherNumerics(deps, model, numerics)
}

/**
 * Returns the nodes of a model that do not report some numerics, if another node does that is not avoided anyway.
 *
 * @param avoided nodes that are avoided for another reason
 */
export async function nodesOfOtherNumerics(
  deps: Pick<StepDeps, 'fleet'>,
  model: string,
  wanted: string,
  avoided: readonly string[] = [],
): Promise<string[]> {
  const nodes = await liveNodes(deps, model)
  const isAlike = ({ numerics }: (typeof nodes)[number]) =>
    numerics !== undefined && sameNumerics(numerics, wanted)
  if (!nodes.some((node) => isAlike(node) && !avoided.includes(node.id))) return []
  return nodes.filter((node) => !isAlike(node)).map(({ id }) => id)
}

/** The nodes that measure losses as others were measured, so that the two can be compared. */
import { sameNumerics } from '@copal/shared/metrics/numerics.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import { liveNodes } from './trial-check.ts'
import { jobNumerics, type FinishedJob } from './update-jobs.ts'
import type { StepDeps } from './update-step.ts'

/**
 * Returns the nodes that a measurement avoids whose losses are compared with those of an ended job: all but the node of that job, or,
 * where it is gone, those that do not report its numerics.
 */
export async function nodesUnlike(deps: Pick<StepDeps, 'fleet'>, ended: FinishedJob): Promise<string[]> {
  const { model, nodeId } = ended.job
  const nodes = await liveNodes(deps, model)
  const others = nodes.map(({ id }) => id).filter((id) => id !== nodeId)
  if (others.length < nodes.length) return others
  const numerics = jobNumerics(ended)
  return numerics === null ? [] : nodesOfOtherNumerics(nodes, numerics)
}

/**
 * Returns those of some nodes that do not report some numerics, if another one does that is not avoided anyway.
 *
 * @param avoided nodes that are avoided for another reason
 */
export function nodesOfOtherNumerics(
  nodes: readonly Pick<NodeView, 'id' | 'numerics'>[],
  wanted: string,
  avoided: readonly string[] = [],
): string[] {
  const isAlike = ({ numerics }: Pick<NodeView, 'numerics'>) =>
    numerics !== undefined && sameNumerics(numerics, wanted)
  if (!nodes.some((node) => isAlike(node) && !avoided.includes(node.id))) return []
  return nodes.filter((node) => !isAlike(node)).map(({ id }) => id)
}

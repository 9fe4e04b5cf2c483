import { AppError } from '@copal/shared/errors.ts'
import { findDatasets } from '../../storage/db/queries/dataset-queries.ts'
import { findMask, promoteMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import { requireMaskVersion, type StepDeps, type StepOutcome } from './update-step.ts'

/** After this time a mask counts as promoted even if a live node does not serve it yet. */
const CONVERGENCE_TIMEOUT_MS = 120_000

/** Nodes retry loading during this time, so that a temporary failure does not fail the update. */
const LOAD_GRACE_MS = 15_000

/**
 * Activates the mask once, and waits until the live nodes serve it.
 *
 * @throws AppError `node_failed` when none of them can load it
 */
export async function promote(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const version = requireMaskVersion(update)
  let mask = await findMask(deps.db, update.model, version)
  if (mask && mask.promotedAt === null) {
    await promoteMask(
      deps.db,
      update,
      version,
      await findDatasets(deps.db, update.datasets ?? []),
      deps.nowMs(),
    )
    mask = await findMask(deps.db, update.model, version)
  }
  // Still not promoted: the update has left the state `promoting` meanwhile, which the next read of its row shows.
  if (!mask?.promotedAt) return undefined
  const nodes = await liveNodes(deps, update.model)
  const waitedMs = deps.nowMs() - mask.promotedAt
  if (waitedMs >= LOAD_GRACE_MS) requireLoadable(nodes, version)
  const everyNodeServes = nodes.length > 0 && nodes.every((node) => node.activeVersion === version)
  return everyNodeServes || waitedMs >= CONVERGENCE_TIMEOUT_MS ? { event: 'converged', patch: {} } : undefined
}

async function liveNodes(deps: StepDeps, model: string): Promise<NodeView[]> {
  const { nodes } = await deps.fleet.snapshot()
  return nodes.filter((node) => node.model === model && node.alive && !node.draining)
}

/** A node that serves the version does not count as failed, even if its weight set broke since: it will be loaded again. */
function requireLoadable(nodes: readonly NodeView[], version: number): void {
  const failures = nodes.flatMap(({ id, activeVersion, weightSets }) => {
    const set = weightSets.find((candidate) => candidate.version === version)
    return set?.state === 'failed' && activeVersion !== version ? [{ id, reason: set.error }] : []
  })
  const [first] = failures
  if (!first || failures.length < nodes.length) return
  throw new AppError(
    'node_failed',
    `No node can load mask m${version}, so the previous mask stays in use. Node '${first.id}' reports: ` +
      (first.reason ?? 'no reason. See its log.'),
  )
}

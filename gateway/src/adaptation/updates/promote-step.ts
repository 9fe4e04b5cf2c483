import { AppError } from '@copal/shared/errors.ts'
import { findMask, promoteMask } from '../../storage/db/queries/mask-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { isForced, startWatch } from './mask-watch.ts'
import { promoteOwnMask, rejudgeOwnMasks } from './own-mask-step.ts'
import { liveNodes, nameOf } from './trial-check.ts'
import { requireMaskVersion, requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/** How long the slower nodes are waited for, once a live node serves the mask. */
const CONVERGENCE_TIMEOUT_MS = 120_000

/** Nodes retry loading during this time, so that a temporary failure does not fail the update. */
const LOAD_GRACE_MS = 15_000

/**
 * Activates the mask once, and waits until the live nodes serve it. As long as no live node does, it waits: then nothing
 * shows that the mask can be loaded. Once one does, the mask is watched.
 *
 * @throws AppError `node_failed` when no live node can load it; `conflict` when the mask that it was compared with is no
 * longer active
 */
export async function promote(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const version = requireMaskVersion(update)
  if (update.ownDomain !== null) return promoteOwnMask(deps, update, version)
  let mask = await findMask(deps.db, update.model, version)
  if (mask && mask.promotedAt === null) {
    await requireParent(deps, update)
    await promoteMask(deps.db, update, version, deps.nowMs())
    mask = await findMask(deps.db, update.model, version)
  }
  // Still not promoted: meanwhile the update has left the state `promoting`, or another mask became active. The next call
  // sees which.
  if (!mask?.promotedAt) return undefined
  await rejudgeOwnMasks(deps, update)
  const nodes = await liveNodes(deps, update.model)
  const waitedMs = deps.nowMs() - mask.promotedAt
  if (waitedMs >= LOAD_GRACE_MS) requireLoadable(nodes, version)
  const serving = nodes.filter((node) => node.activeVersion === version)
  if (serving.length === 0) return undefined
  await startWatch(deps, update, version)
  if (serving.length < nodes.length && waitedMs < CONVERGENCE_TIMEOUT_MS) return undefined
  const reason = `Active; ${serving.length} of ${nodes.length} live nodes serve it.`
  const decision = { kind: 'promote', verdict: 'done', reason, actor: SERVICE_ACTOR } as const
  return { event: 'converged', patch: {}, decision }
}

/** The mask was compared with its parent alone. An operator who forces it knows what is active. */
async function requireParent(deps: StepDeps, update: UpdateRow): Promise<void> {
  const { activeVersion, id } = await requireModel(deps, update)
  const parent = update.parentVersion ?? 0
  // A concurrent call may have activated it since the mask was read.
  if ([parent, update.maskVersion].includes(activeVersion) || (await isForced(deps, update))) return
  throw new AppError(
    'conflict',
    `m${update.maskVersion} was compared with ${nameOf(parent)}, but ${nameOf(activeVersion)} of '${id}' became active ` +
      'meanwhile. Start the update again.',
  )
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

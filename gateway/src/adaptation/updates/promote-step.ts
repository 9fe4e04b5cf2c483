import { AppError } from '@copal/shared/errors.ts'
import { findMask, promoteMask } from '../../storage/db/queries/mask-queries.ts'
import { noteServed, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import { failedToLoad } from '../../fleet/registration/failed-to-load.ts'
import { countWaves, UNLOADABLE_NODES } from '../../fleet/registration/roll-out.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { isForced, startWatch } from './mask-watch.ts'
import { promoteOwnMask, rejudgeOwnMasks } from './own-mask-step.ts'
import { liveNodes, loadError, nameOf } from './trial-check.ts'
import { requireMaskVersion, requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/** How long each wave of nodes is waited for, once a live node serves the mask. */
const WAVE_TIMEOUT_MS = 120_000

/** Nodes retry loading during this time, so that a temporary failure does not fail the update. */
const LOAD_GRACE_MS = 15_000

/**
 * Activates the mask once, and waits until the live nodes serve it: one first, then the others in waves (`roll-out.ts`). As
 * long as no live node does, it waits: then nothing shows that the mask can be loaded. Once one does, the mask is watched.
 * If the first two nodes cannot load it, or the only live one after {@link LOAD_GRACE_MS}, the update fails, and the mask before it
 * is active again.
 *
 * @throws AppError `conflict` when the mask that it was compared with is no longer active
 */
export async function promote(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const version = requireMaskVersion(update)
  if (update.ownDomain !== null) return promoteOwnMask(deps, update, version)
  let mask = await findMask(deps.db, update.model, version)
  if (mask && mask.promotedAt === null) {
    await requireParent(deps, update)
    mask = await promoteMask(deps.db, update, version, deps.nowMs())
  }
  // Still not promoted: meanwhile the update has left the state `promoting`, or another mask became active. The next call
  // sees which.
  if (!mask?.promotedAt) return undefined
  const nodes = await liveNodes(deps, update.model)
  const nowMs = deps.nowMs()
  const serving = nodes.filter((node) => node.activeVersion === version)
  if (serving.length === 0)
    return nowMs - mask.promotedAt < LOAD_GRACE_MS ? undefined : failedOutcome(nodes, version)
  // Not before, because a mask that cannot be loaded is taken back, and these masks were compared with the one before it.
  await rejudgeOwnMasks(deps, update)
  await startWatch(deps, update, version)
  if (serving.length < nodes.length) {
    // Not since the promotion: the first node may have loaded the mask for longer than all waves may take.
    const servedSinceMs = update.servedSince ?? (await noteServed(deps.db, update.id, nowMs))
    if (nowMs - servedSinceMs < WAVE_TIMEOUT_MS * countWaves(nodes.length)) return undefined
  }
  const failed = failedNodes(nodes, version).length > 0 ? ` ${loadError(nodes, version)}` : ''
  const reason = `Active; ${serving.length} of ${nodes.length} live nodes serve it.${failed}`
  const decision = { kind: 'promote', verdict: 'done', reason, actor: SERVICE_ACTOR } as const
  return { event: 'promoted', patch: {}, decision }
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

/**
 * Returns the failure of an update whose mask no node serves, because those that were to load it first cannot; undefined
 * while one of them tries for the first time, or another one is to.
 */
function failedOutcome(nodes: readonly NodeView[], version: number): StepOutcome | undefined {
  const begun = nodes.filter(({ weightSets }) => weightSets.some((set) => set.version === version))
  const failed = failedNodes(nodes, version)
  if (failed.length < begun.length || begun.length < Math.min(UNLOADABLE_NODES, Math.max(1, nodes.length)))
    return undefined
  const errors = failed.map((node) => loadError([node], version))
  const reason =
    `Mask m${version} cannot be loaded, so no other node gets it, and the mask before it stays in use. ` +
    errors.join(' ')
  const decision = { kind: 'promote', verdict: 'failed', reason, actor: SERVICE_ACTOR } as const
  return { event: 'failed', patch: { errorCode: 'node_failed', errorMessage: reason }, decision }
}

/**
 * Returns the nodes that could not load the version, also those that try again now: each retries at times of its own. A node that
 * serves the version does not count as failed, even if its weight set broke since: it will be loaded again.
 */
function failedNodes(nodes: readonly NodeView[], version: number): NodeView[] {
  return nodes.filter((node) => node.activeVersion !== version && failedToLoad(node.weightSets, version))
}

import { DAY_MS } from '@copal/shared/day.ts'
import { AppError } from '@copal/shared/errors.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { FORCEABLE_MS } from '../../storage/db/queries/dataset-queries.ts'
import { findGateDecision } from '../../storage/db/queries/gate-queries.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import { findLastUpdate, findUpdate, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { isForceableDecision } from '../gate/gate-verdict.ts'
import { requireMaskFile } from '../models/require-mask.ts'
import { moveUpdate } from './move-update.ts'
import type { StepDeps, StepOutcome } from './update-step.ts'

/**
 * Activates the mask of an update that the gate rejected, against the gate's advice. The decision names who did it and why.
 *
 * @param actor the id of the admin key
 * @throws AppError `not_found`; `conflict` unless the gate rejected the model's newest update for being worse: a mask that
 * gives no text can never be forced, nor one whose file was deleted
 */
export async function forceUpdate(
  deps: Pick<StepDeps, 'db' | 'artifacts' | 'reservoir' | 'nowMs' | 'telemetry' | 'waitUntil'>,
  id: string,
  { reason, actor }: { reason: string; actor: string },
): Promise<UpdateRow> {
  const update = await findUpdate(deps.db, id)
  if (!update)
    throw new AppError('not_found', `There is no update '${id}'. 'GET /admin/updates' lists the updates.`)
  const obstacle = await findObstacle(deps, update)
  if (obstacle !== undefined) throw new AppError('conflict', obstacle)
  const mask = await findMask(deps.db, update.model, update.maskVersion ?? 0)
  if (mask) requireMaskFile(mask)
  const forced: StepOutcome = {
    event: 'forced',
    patch: { errorCode: null, errorMessage: null },
    decision: { kind: 'force', verdict: 'done', reason, figures: [], actor },
  }
  // The database rejects a second running update of a model, if one was started since the newest was looked up.
  const moved = await moveUpdate(deps, update, forced).catch(async (error: unknown) => {
    if ((await findLastUpdate(deps.db, update.model))?.id === id) throw error
    return undefined
  })
  if (moved) return moved
  throw new AppError(
    'conflict',
    `Update '${id}' has changed meanwhile. 'GET /admin/updates/${id}' shows its state.`,
  )
}

/** Returns whether an operator can force an update now. */
export async function isForceable(deps: Pick<StepDeps, 'db' | 'nowMs'>, update: UpdateRow): Promise<boolean> {
  if ((await findObstacle(deps, update)) !== undefined) return false
  const mask = await findMask(deps.db, update.model, update.maskVersion ?? 0)
  return mask !== undefined && mask.sweptAt === null
}

async function findObstacle(
  deps: Pick<StepDeps, 'db' | 'nowMs'>,
  update: UpdateRow,
): Promise<string | undefined> {
  const { id, model, state, errorCode, maskVersion } = update
  if (state !== 'failed' || errorCode !== 'gate_failed' || maskVersion === null) {
    const failure = state === 'failed' && errorCode !== null ? ` with the code '${errorCode}'` : ''
    return `Update '${id}' is ${UPDATE_STATES[state]}${failure}. Only an update that the gate rejected ('gate_failed') can be forced.`
  }
  if (update.ownDomain !== null)
    return `Update '${id}' makes a mask for '${update.ownDomain}' alone. Such a mask cannot be forced: the shared one serves the domain.`
  const newest = await findLastUpdate(deps.db, model)
  if (newest && newest.id !== id)
    return `Update '${id}' is not the newest of '${model}': '${newest.id}' is. Only the newest can be forced; start the update again.`
  if ((update.finishedAt ?? 0) <= deps.nowMs() - FORCEABLE_MS)
    return `Update '${id}' was rejected more than ${FORCEABLE_MS / DAY_MS} days ago, and its texts are kept no longer; start the update again.`
  const decision = await findGateDecision(deps.db, id, maskVersion)
  if (decision && isForceableDecision(decision.figures)) return undefined
  return (
    `Mask m${maskVersion} of update '${id}' does not generate text: ` +
    `${decision?.reason ?? 'nothing was measured.'} Such a mask cannot be forced.`
  )
}

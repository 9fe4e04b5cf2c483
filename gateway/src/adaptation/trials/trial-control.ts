import { AppError } from '@copal/shared/errors.ts'
import { formatTime } from '@copal/shared/phrases.ts'
import type { StartTrial } from '@copal/shared/wire/admin-trials.ts'
import { hasPassedGate } from '../../storage/db/queries/gate-queries.ts'
import type { MaskRow } from '../../storage/db/queries/mask-queries.ts'
import { setTrial, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { requireMask, requireMaskFile } from '../models/require-mask.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import type { StoredTrial, TrialKind } from '../../contracts/trial.ts'

/**
 * Starts a trial of a registered mask beside the active one; starting it again only changes the share.
 *
 * Nodes learn of the trial with their next heartbeat and take part as soon as they have loaded the mask.
 *
 * A canary answers clients, so its mask must be proven: it was active before, passed the gate, or is the dense model.
 *
 * @returns the model after the change
 * @throws AppError `model_not_found`, `not_found`; `conflict` for the active mask, for one whose file was deleted, for a canary
 * of an unproven one, and while an update runs a trial
 */
export async function startTrial(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  kind: TrialKind,
  { model: id, mask_version: version, share }: StartTrial,
): Promise<ModelRow> {
  for (;;) {
    const model = await findOperatorModel(deps.db, id)
    if (version === model.activeVersion) {
      throw new AppError(
        'conflict',
        `'${model.id}' already serves ${nameOf(version)}. A ${kind} needs a mask that is not active: 'GET /admin/masks' lists the masks.`,
        { param: 'mask_version' },
      )
    }
    const mask = version === 0 ? undefined : await requireMask(deps.db, model.id, version, 'mask_version')
    if (mask) requireMaskFile(mask)
    requireNoUpdateTrial(model, kind)
    if (mask && kind === 'canary') await requireProven(deps, mask)
    const now = trialsInForce(model)[kind]
    const sinceMs = now?.version === version ? now.sinceMs : deps.nowMs()
    const trial: StoredTrial = { version, share, beside: model.activeVersion, sinceMs }
    if (await setTrial(deps.db, model, kind, trial)) return { ...model, [kind]: trial }
  }
}

/**
 * Ends a trial; running requests continue.
 *
 * @returns the model after the change, and whether a trial was ended
 * @throws AppError `model_not_found`; `conflict` for the trial of an update
 */
export async function endTrial(
  deps: Pick<Deps, 'db'>,
  kind: TrialKind,
  id: string | undefined,
): Promise<{ model: ModelRow; ended: boolean }> {
  for (;;) {
    const model = await findOperatorModel(deps.db, id)
    if (trialsInForce(model)[kind]) requireNoUpdateTrial(model, kind)
    const ended = trialsInForce(model)[kind] !== undefined
    if (await setTrial(deps.db, model, kind, null)) return { model: { ...model, [kind]: null }, ended }
  }
}

/** Rejects a mask that was never active and that no gate has passed: it might answer clients with anything. */
async function requireProven(deps: Pick<Deps, 'db'>, { model, version, promotedAt }: MaskRow): Promise<void> {
  if (promotedAt !== null || (await hasPassedGate(deps.db, model, version))) return
  throw new AppError(
    'conflict',
    `Mask m${version} of '${model}' was never active and has not passed the gate, and a canary answers clients. Compare ` +
      `it with a shadow, which answers none ('PUT /admin/shadow'). The gate judges masks of updates ` +
      `('POST /admin/updates') and files that are imported with 'activate'; an update whose mask it rejected can be ` +
      `forced ('POST /admin/updates/:id/force').`,
    { param: 'mask_version' },
  )
}

/**
 * Rejects a change of trials that would take the evidence from an update: both trials while its canary runs, and the shadow
 * while the mask that it promoted is watched.
 */
function requireNoUpdateTrial(model: ModelRow, kind: TrialKind): void {
  const { canary, shadow } = trialsInForce(model)
  if (canary?.updateId !== undefined) {
    throw new AppError(
      'conflict',
      `Update '${canary.updateId}' is testing m${canary.version} as canary and shadow of '${model.id}'. Wait until it ` +
        `ends, or cancel it with 'POST /admin/updates/${canary.updateId}/cancel'.`,
    )
  }
  const { watch } = model
  if (kind === 'shadow' && watch && shadow?.updateId === watch.updateId) {
    throw new AppError(
      'conflict',
      `m${watch.version} of '${model.id}' is watched with m${watch.beside} as its shadow. Wait until ` +
        `${formatTime(watch.untilMs)}.`,
    )
  }
}

function nameOf(version: number): string {
  return version === 0 ? 'the dense weights' : `mask m${version}`
}

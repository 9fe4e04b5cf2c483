import { AppError } from '@copal/shared/errors.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import type { MaskRow } from '../../storage/db/queries/mask-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { insertUpdate } from '../../storage/db/queries/update-queries.ts'
import { requireNotRolledBack, rollBack, type RollbackDeps } from '../updates/mask-rollback.ts'

/** Nothing is calibrated, so these fields of an update mean nothing here. */
const UNUSED = { samples: 1, length: 16, seed: 0 } as const

/** The update that evaluates an imported mask. */
export interface ImportUpdate {
  id: string
  /** False if an earlier call for the same mask has started it. */
  isNew: boolean
}

/**
 * Activates an imported mask: at once if it was active before, which is a roll-back; else by an update that starts with the
 * evaluation and goes through gate and canary as every other. A mask that was rolled back is rejected: a roll-back can name
 * its version.
 *
 * @param actor the id of the admin key, for the decision of a roll-back
 * @returns undefined for a roll-back
 * @throws AppError `conflict` for a mask that was rolled back, and while another update of the model is running
 */
export async function activateMask(
  deps: RollbackDeps,
  model: ModelRow,
  mask: MaskRow,
  actor: string,
): Promise<ImportUpdate | undefined> {
  if (mask.promotedAt !== null) {
    await requireNotRolledBack(deps, model, mask.version)
    await rollBack(deps, { model: model.id, version: mask.version }, actor)
    return undefined
  }
  const id = `upd_${crypto.randomUUID().replaceAll('-', '')}`
  const { method, pattern, scope, domains, version } = mask
  const running = await insertUpdate(deps.db, {
    ...UNUSED,
    id,
    model: model.id,
    domains,
    method,
    pattern,
    scope,
    state: 'evaluating',
    datasets: [],
    parentVersion: model.activeVersion,
    maskVersion: version,
    createdAt: deps.nowMs(),
  })
  if (!running) return { id, isNew: true }
  if (running.datasets?.length === 0 && running.maskVersion === version)
    return { id: running.id, isNew: false }
  throw new AppError(
    'conflict',
    `The file is registered as m${version} of '${model.id}', but it cannot be evaluated while update '${running.id}' is ` +
      `${UPDATE_STATES[running.state]}. Import it again when that has ended, or cancel it with 'POST /admin/updates/${running.id}/cancel'.`,
  )
}

import { AppError } from '@copal/shared/errors.ts'
import type { RollbackRequest } from '@copal/shared/wire/admin.ts'
import { findMask, IMPORT_PREFIX } from '../../storage/db/queries/mask-queries.ts'
import { activateVersion, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findUpdateOfMask } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { moveUpdate } from './move-update.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { nextState } from './update-states.ts'

/**
 * Activates an earlier mask: `version`, or the previous one; 0 is the dense model. Nodes swap with their next heartbeat.
 * The update whose mask is rolled back becomes `rolled_back`.
 *
 * @returns the active version afterwards
 * @throws AppError `not_found` if the mask does not exist; `conflict` if it was never active, or if there is no previous
 * mask; the errors of `findOperatorModel`
 */
export async function rollBack(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  request: RollbackRequest,
): Promise<number> {
  for (;;) {
    const model = await findOperatorModel(deps.db, request.model)
    const version = request.version ?? model.previousVersion
    if (version === null) {
      throw new AppError(
        'conflict',
        `'${model.id}' has no previous mask. Name the version to restore; 0 is the dense model.`,
      )
    }
    if (version === model.activeVersion) return version
    await requireWasActive(deps, model, version)
    // This comes before the activation, so that an update that is still promoting cannot activate its mask afterwards.
    await markUpdate(deps, model, model.activeVersion, 'rolled_back')
    if (!(await activateVersion(deps.db, model, version))) continue
    await markUpdate(deps, model, version, 'reinstated')
    return version
  }
}

async function requireWasActive(deps: Pick<Deps, 'db'>, model: ModelRow, version: number): Promise<void> {
  if (version === 0) return
  const mask = await findMask(deps.db, model.id, version)
  if (!mask) {
    throw new AppError(
      'not_found',
      `'${model.id}' has no mask m${version}. 'GET /admin/masks' lists the masks.`,
      {
        param: 'version',
      },
    )
  }
  if (mask.promotedAt === null) {
    throw new AppError(
      'conflict',
      mask.updateId.startsWith(IMPORT_PREFIX)
        ? `Mask m${version} of '${model.id}' was imported but never active. Import its file again, with 'activate'.`
        : `Mask m${version} of '${model.id}' was never active. Only a mask that was active before can be restored.`,
      { param: 'version' },
    )
  }
}

async function markUpdate(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  model: ModelRow,
  version: number,
  event: 'rolled_back' | 'reinstated',
): Promise<void> {
  if (version === 0) return
  for (;;) {
    const update = await findUpdateOfMask(deps.db, model.id, version)
    // If the event does not apply in this state, there is nothing to mark; no other call was faster.
    if (!update || nextState(update.state, event) === undefined) return
    if (await moveUpdate(deps, update, { event, patch: {} })) return
  }
}

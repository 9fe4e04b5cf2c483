import { AppError } from '@copal/shared/errors.ts'
import type { RollbackRequest } from '@copal/shared/wire/admin.ts'
import { findMask, IMPORTED } from '../../storage/db/queries/mask-queries.ts'
import { activateVersion, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { findUpdateOfMask } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { moveUpdate } from './move-update.ts'
import { resolveModel } from '../models/resolve-model.ts'
import { nextState } from './update-states.ts'

/**
 * Makes an earlier mask active again: `version`, or the one before the present one; 0 is dense. Nodes flip
 * with their next heartbeat. The update whose mask is taken back becomes `rolled_back`.
 *
 * @returns the version that is active then.
 * @throws AppError `not_found`, `conflict`
 */
export async function rollBack(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  request: RollbackRequest,
): Promise<number> {
  for (;;) {
    const model = await resolveModel(deps.db, request.model)
    const version = request.version ?? model.previousVersion
    if (version === null) {
      throw new AppError(
        'conflict',
        `'${model.id}' has had no mask before the present one. Give a 'version'; 0 is dense.`,
      )
    }
    if (version === model.activeVersion) return version
    await requireServedBefore(deps, model, version)
    // Before the activation, so that an update that is just promoting does not activate its mask after this.
    await mark(deps, model, model.activeVersion, 'rolled_back')
    if (!(await activateVersion(deps.db, model, version))) continue
    await mark(deps, model, version, 'reinstated')
    return version
  }
}

async function requireServedBefore(deps: Pick<Deps, 'db'>, model: ModelRow, version: number): Promise<void> {
  if (version === 0) return
  const mask = await findMask(deps.db, model.id, version)
  if (!mask) {
    throw new AppError('not_found', `'${model.id}' has no mask m${version}. 'GET /admin/masks' lists them.`, {
      param: 'version',
    })
  }
  if (mask.promotedAt === null) {
    throw new AppError(
      'conflict',
      mask.updateId.startsWith(IMPORTED)
        ? `Mask m${version} of '${model.id}' was imported but never active. Import its file again, with 'activate'.`
        : `Mask m${version} of '${model.id}' was never promoted: its update did not get so far.`,
      { param: 'version' },
    )
  }
}

async function mark(
  deps: Pick<Deps, 'db' | 'artifacts' | 'nowMs'>,
  model: ModelRow,
  version: number,
  event: 'rolled_back' | 'reinstated',
): Promise<void> {
  if (version === 0) return
  for (;;) {
    const update = await findUpdateOfMask(deps.db, model.id, version)
    // An event without a meaning in this state is no lost race: nothing is to be marked.
    if (!update || nextState(update.state, event) === undefined) return
    if (await moveUpdate(deps, update, { event, patch: {} })) return
  }
}

import { AppError } from '@copal/shared/errors.ts'
import { findModel, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { UpdatePatch, UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { UpdateEvent } from './update-states.ts'

/** What a step found to have happened, and what the update shall remember of it. */
export interface StepOutcome {
  event: UpdateEvent
  patch: Omit<UpdatePatch, 'state' | 'finishedAt'>
}

/** What steps need of the gateway. */
export type StepDeps = Pick<Deps, 'db' | 'artifacts' | 'fleet' | 'reservoir' | 'nowMs'>

/**
 * The work of one state: looks at what is there and does what is missing. It may be repeated, or run twice
 * at once, without harm.
 *
 * @returns `undefined` while it waits for nodes.
 * @throws AppError when the update cannot succeed any more
 */
export type Step = (deps: StepDeps, update: UpdateRow) => Promise<StepOutcome | undefined>

/** The model of an update. */
export async function modelOf(deps: Pick<StepDeps, 'db'>, update: UpdateRow): Promise<ModelRow> {
  const model = await findModel(deps.db, update.model)
  if (!model) throw new AppError('model_not_found', `The model '${update.model}' is unknown.`)
  return model
}

/** The version of an update's mask, once it is registered. */
export function versionOf(update: UpdateRow): number {
  if (update.maskVersion === null) {
    throw new AppError('internal_error', `Update ${update.id} is ${update.state} without a mask.`)
  }
  return update.maskVersion
}

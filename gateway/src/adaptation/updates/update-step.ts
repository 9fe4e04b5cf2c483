import { AppError } from '@copal/shared/errors.ts'
import { findModel, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { DecisionOfUpdate, UpdatePatch, UpdateRow } from '../../storage/db/queries/update-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { UpdateEvent } from './update-states.ts'

/** The outcome of a step: an event, and changes to the row of the update. */
export interface StepOutcome {
  event: UpdateEvent
  patch: Omit<UpdatePatch, 'state' | 'finishedAt'>
  /** The decision that it follows from; it is stored if, and only if, the update moves. */
  decision?: DecisionOfUpdate
}

/** The dependencies of steps. */
export type StepDeps = Pick<
  Deps,
  | 'db'
  | 'artifacts'
  | 'fleet'
  | 'reservoir'
  | 'adaptationPreset'
  | 'keyPepper'
  | 'nodeSecrets'
  | 'nodeFetch'
  | 'nowMs'
  | 'telemetry'
  | 'waitUntil'
> & {
  /** Set in a heartbeat, which must not take long: a step that would call nodes is left to others for some time. */
  isHeartbeat?: boolean
}

/**
 * The work of one state: checks what exists and does what is missing. It is idempotent, and may run concurrently.
 *
 * @returns `undefined` while it waits for nodes
 * @throws AppError when the update cannot succeed any more
 */
export type Step = (deps: StepDeps, update: UpdateRow) => Promise<StepOutcome | undefined>

/** Returns the model of an update. */
export async function requireModel(deps: Pick<StepDeps, 'db'>, update: UpdateRow): Promise<ModelRow> {
  const model = await findModel(deps.db, update.model)
  if (!model) throw new AppError('model_not_found', `The model '${update.model}' is unknown.`)
  return model
}

/** Returns the version of an update's mask, which must be registered. */
export function requireMaskVersion(update: UpdateRow): number {
  if (update.maskVersion === null) {
    throw new AppError('internal_error', `Update ${update.id} is ${update.state} without a mask.`)
  }
  return update.maskVersion
}

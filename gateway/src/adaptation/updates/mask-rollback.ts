import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import { updateState, type RollbackRequest, type UpdateState } from '@copal/shared/wire/admin.ts'
import { cancelJobsOf } from '../../storage/db/queries/job-queries.ts'
import { IMPORT_PREFIX } from '../../storage/db/queries/mask-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import {
  activateEarlier,
  listServedMasks,
  type ActivationDecision,
} from '../../storage/db/queries/rollback-queries.ts'
import { findUpdateOfMask } from '../../storage/db/queries/update-queries.ts'
import { removalDecision } from '../own-masks/remove-own-masks.ts'
import { releaseFrozenTexts } from '../statistics/release-texts.ts'
import { planRollback } from '../statistics/rollback-plan.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { requireMask, requireMaskFile } from '../models/require-mask.ts'
import type { StepDeps } from './update-step.ts'
import { nameOf } from './trial-check.ts'
import { nextState, type UpdateEvent } from './update-states.ts'

/** The dependencies of a roll-back. */
export type RollbackDeps = Pick<StepDeps, 'db' | 'artifacts' | 'reservoir' | 'nowMs'>

/**
 * Activates an earlier mask: `version`, or the previous one; 0 is the dense model. Nodes swap with their next heartbeat.
 *
 * The updates whose masks became active after it become `rolled_back`, unless it descends from them, and their texts do not
 * count any more. Those of its own line count again if they were rolled back. An update that is running, or can still
 * be forced, fails if its mask is selected from texts that do not count any more.
 *
 * @param actor the id of the admin key, for the decision
 * @returns the active version afterwards
 * @throws AppError `not_found` if the mask does not exist; `conflict` if it was never active, if there is no previous
 * mask, or if that was rolled back and the request does not name it; the errors of `findOperatorModel`
 */
export async function rollBack(deps: RollbackDeps, request: RollbackRequest, actor: string): Promise<number> {
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
    await requireUsable(deps, model, version)
    if (request.version === undefined) await requireNotRolledBack(deps, model, version)
    const decision = await rollbackDecision(deps, model, version)
    if (await rollBackTo(deps, model, version, { ...decision, actor })) return version
  }
}

/**
 * Rejects a mask that was rolled back, as a target whose version nobody has named: it may have done harm, and after a
 * roll-back it is the previous mask.
 *
 * @throws AppError `conflict`
 */
export async function requireNotRolledBack(
  deps: Pick<RollbackDeps, 'db'>,
  { id }: ModelRow,
  version: number,
): Promise<void> {
  if (version === 0) return
  const update = await findUpdateOfMask(deps.db, id, version)
  if (update?.state !== 'rolled_back') return
  throw new AppError(
    'conflict',
    `Mask m${version} of '${id}' was rolled back, and may have done harm: see 'GET /admin/updates/${update.id}'. To serve ` +
      `it all the same, or another mask, name its version in 'POST /admin/rollback': ${version} is this mask, 0 the dense model.`,
  )
}

/** Returns the decision of an operator's roll-back. It belongs to the update whose mask is active. */
async function rollbackDecision(
  deps: Pick<RollbackDeps, 'db'>,
  { id, activeVersion }: ModelRow,
  version: number,
) {
  const update = activeVersion === 0 ? undefined : await findUpdateOfMask(deps.db, id, activeVersion)
  return {
    kind: 'roll_back' as const,
    verdict: 'done' as const,
    reason:
      version > activeVersion
        ? `An operator returned from ${nameOf(activeVersion)} to ${nameOf(version)}.`
        : `An operator rolled back from ${nameOf(activeVersion)} to ${nameOf(version)}.`,
    updateId: update?.id ?? null,
    maskVersion: activeVersion,
  }
}

/**
 * Activates a mask that was active before, or the dense model, as {@link rollBack} does. Updates that fail by it lose their
 * jobs and give their texts back.
 *
 * @param decision stored if, and only if, the mask becomes active
 * @returns false if the model has changed meanwhile; then nothing is changed
 */
export async function rollBackTo(
  deps: RollbackDeps,
  model: ModelRow,
  version: number,
  decision: ActivationDecision,
): Promise<boolean> {
  const { rolledBack, kept } = planRollback(
    await listServedMasks(deps.db, model.id),
    version,
    model.activeVersion,
  )
  const reason = `${nameOf(version)} became active by a roll-back.`
  const removals = [...model.domainVersions.keys()].map((domain) =>
    removalDecision(model, { domain, reason }, decision.actor, deps.nowMs()),
  )
  const change = {
    version,
    rolledBack: { masks: rolledBack, from: statesBefore('rolled_back'), to: 'rolled_back' },
    reinstated: { masks: kept, from: statesBefore('reinstated'), to: 'promoted' },
    superseded: { from: statesBefore('failed'), to: 'failed', error: superseded(model) },
    decisions: [decision, ...removals],
  } as const
  const ended = await activateEarlier(deps.db, model, change, deps.nowMs())
  if (!ended) return false
  for (const update of ended) {
    await cancelJobsOf(deps.db, update.id)
    await releaseFrozenTexts(deps, update)
  }
  return true
}

/** Returns the states in which an event applies. */
function statesBefore(event: UpdateEvent): UpdateState[] {
  return updateState.options.filter((state) => nextState(state, event) !== undefined)
}

function superseded({ id }: ModelRow): { code: ErrorCode; message: string } {
  const message =
    `Masks of '${id}' were rolled back since this update began, and its mask was also selected from their texts. ` +
    'Start the update again.'
  return { code: 'conflict', message }
}

/** Rejects a mask that was never active, or whose file was deleted. */
async function requireUsable(deps: Pick<StepDeps, 'db'>, model: ModelRow, version: number): Promise<void> {
  if (version === 0) return
  const mask = await requireMask(deps.db, model.id, version, 'version')
  if (mask.promotedAt === null) {
    throw new AppError(
      'conflict',
      mask.updateId.startsWith(IMPORT_PREFIX)
        ? `Mask m${version} of '${model.id}' was imported but never active. Import its file again, with 'activate'.`
        : `Mask m${version} of '${model.id}' was never active. Only a mask that was active before can be restored.`,
      { param: 'version' },
    )
  }
  requireMaskFile(mask)
}

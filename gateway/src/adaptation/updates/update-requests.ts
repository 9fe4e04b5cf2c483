import { AppError } from '@copal/shared/errors.ts'
import type { UpdateRequest, UpdateTrigger } from '@copal/shared/wire/admin.ts'
import type { DomainWeights } from '@copal/shared/wire/selection.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { ensureDomains } from '../../storage/db/queries/domain-queries.ts'
import {
  findUpdate,
  insertUpdate,
  listRunningUpdates,
  type DecisionOfUpdate,
  type UpdateRow,
} from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { createCallBudget, isCallsUsedUp, untilUsedUp } from '../../calls/call-budget.ts'
import { meterDeps } from '../../calls/metered-deps.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { requireDomainTexts } from './require-domain-texts.ts'
import { advanceUpdate } from './advance-update.ts'
import { requireNoOperatorTrial } from './canary-step.ts'
import { moveUpdate } from './move-update.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { liveNodes } from './trial-check.ts'
import { findOperatorModel } from '../models/find-operator-model.ts'
import { demandOf, methodOf, patternsOf } from './update-choices.ts'
import type { StepDeps } from './update-step.ts'

/** The cause of an update that starts by itself, for the decision about it. */
export interface UpdateCause {
  trigger: Exclude<UpdateTrigger, 'manual'>
  reason: string
  figures: DecisionFigure[]
  /** The reservoirs of the domains were asked just now, and have enough text. */
  isChecked?: boolean
}

/**
 * Stores a new update; {@link beginUpdate} or the next heartbeat starts it.
 *
 * @param cause what starts it by itself; undefined for an operator
 * @param own for a mask of one domain alone: that domain, and the weights of its selection
 * @throws AppError `insufficient_samples`, `conflict` that names the update of this model that is still running or the operator's trial
 * beside which its canary could not run, `invalid_request`, `model_not_found`, `no_node_available`
 */
export async function createUpdate(
  deps: Pick<StepDeps, 'db' | 'fleet' | 'reservoir' | 'adaptationPreset' | 'nowMs'>,
  request: UpdateRequest,
  cause?: UpdateCause,
  own?: { domain: string; weights: DomainWeights },
): Promise<UpdateRow> {
  const model = await findOperatorModel(deps.db, request.model)
  const [policy, [running]] = await readTogether(deps.db, (db) => [
    findPolicy({ ...deps, db }, model.id),
    listRunningUpdates(db, model.id),
  ])
  // Before the texts are counted, which it may have taken.
  if (running) throw runningError(running)
  // Its own canary could not begin, hours later.
  if (policy.canary.enabled && !own) requireNoOperatorTrial(model, 'The update')
  const { samples, length } = demandOf(model, policy, request)
  if (length > model.contextLength) {
    throw new AppError(
      'invalid_request',
      `'length' is ${length} tokens, but the context of '${model.id}' holds only ${model.contextLength}. Choose a shorter length.`,
      { param: 'length' },
    )
  }
  const { pattern, patterns, scope } = await patternsOf(deps, model, policy, request.selection)
  const method = await methodOf(deps, model.id, policy, { method: request.selection.method, pattern })
  const domains = [...new Set(request.domains)]
  if (!cause?.isChecked)
    await requireDomainTexts(deps, model.id, domains, {
      demand: { samples, length },
      influence: policy.influence,
      windowTokens: evaluationWindow(model),
    })
  await ensureDomains(deps.db, domains, deps.nowMs())
  const id = `upd_${crypto.randomUUID().replaceAll('-', '')}`
  const createdAt = deps.nowMs()
  const started = {
    id,
    model: model.id,
    domains,
    method,
    pattern,
    patterns,
    scope,
    samples,
    length,
    seed: request.seed,
    state: 'collecting',
    createdAt,
    // The mask beside which such a mask is sought is known before its texts are collected, and so also if they never are.
    ...(own ? { ownDomain: own.domain, weights: own.weights, parentVersion: model.activeVersion } : {}),
  } as const
  const other = cause
    ? await insertUpdate(
        deps.db,
        { ...started, trigger: cause.trigger, triggerReason: cause.reason },
        { ...decisionOf(cause), createdAt },
      )
    : await insertUpdate(deps.db, started)
  if (other) throw runningError(other)
  return requireUpdate(deps, id)
}

function runningError({ id, model, state }: UpdateRow): AppError {
  return new AppError(
    'conflict',
    `Update '${id}' of '${model}' is ${UPDATE_STATES[state]}. Wait until it ends, or cancel it with 'POST /admin/updates/${id}/cancel'.`,
  )
}

function decisionOf({ trigger, reason, figures }: UpdateCause): DecisionOfUpdate {
  const started = `Started by ${trigger}: ${reason}`
  return { kind: 'trigger', verdict: 'done', reason: started, figures, actor: SERVICE_ACTOR }
}

/**
 * Starts an update at once. Not required: heartbeats and cron advance the update as well, so a failure is only logged.
 *
 * @throws CallsUsedUp if the event may make no more calls
 */
export async function beginUpdate(deps: StepDeps & Pick<Deps, 'updateWorkflow'>, id: string): Promise<void> {
  const results = await Promise.allSettled([
    deps.updateWorkflow.create({ id, params: { updateId: id } }),
    advanceUpdate(deps, id),
  ])
  for (const result of results) {
    if (result.status === 'fulfilled') continue
    if (isCallsUsedUp(result.reason)) throw result.reason
    console.error(
      `Update ${id} could not be started at once; heartbeats or cron will start it:`,
      result.reason,
    )
  }
}

/**
 * Starts an update at once, as {@link beginUpdate} does, as far as the calls of a request go. Heartbeats, the Workflow and cron
 * go on.
 *
 * @param calls what the request may still make
 */
export async function beginInRequest(deps: Deps, id: string, calls = createCallBudget()): Promise<void> {
  await untilUsedUp(`The start of update ${id}`, beginUpdate(meterDeps(deps, calls), id))
}

/**
 * Cancels an update; nodes stop its job with their next heartbeat. A mask that is to become active, and that no node serves yet,
 * is taken back: the one before stays in use.
 *
 * @throws AppError `not_found`, `conflict` when it is too late
 */
export async function cancelUpdate(
  deps: Pick<StepDeps, 'db' | 'artifacts' | 'fleet' | 'reservoir' | 'nowMs' | 'telemetry' | 'waitUntil'>,
  id: string,
): Promise<UpdateRow> {
  for (;;) {
    const update = await requireUpdate(deps, id)
    if (update.state === 'cancelled') return update
    if (update.state === 'promoting') await requireNotServed(deps, update)
    const moved = await moveUpdate(deps, update, { event: 'cancelled', patch: {} })
    if (moved) return moved
    // After a lost race, try again. Otherwise the state does not allow it.
    if ((await requireUpdate(deps, id)).revision !== update.revision) continue
    throw new AppError(
      'conflict',
      update.state === 'promoted'
        ? `Update '${id}' is promoted, so its mask is active. Roll it back with 'POST /admin/rollback'.`
        : `Update '${id}' has already ended: ${UPDATE_STATES[update.state]}.`,
    )
  }
}

/** @throws AppError `conflict` if a live node serves the mask of an update */
async function requireNotServed(
  deps: Pick<StepDeps, 'fleet'>,
  { id, model, maskVersion }: UpdateRow,
): Promise<void> {
  const serving = (await liveNodes(deps, model)).find(({ activeVersion }) => activeVersion === maskVersion)
  if (!serving) return
  throw new AppError(
    'conflict',
    `Update '${id}' is promoting, and node '${serving.id}' serves its mask already. Roll it back with 'POST /admin/rollback'.`,
  )
}

/**
 * Returns one update.
 *
 * @throws AppError `not_found`
 */
export async function requireUpdate(deps: Pick<StepDeps, 'db'>, id: string): Promise<UpdateRow> {
  const update = await findUpdate(deps.db, id)
  if (update) return update
  throw new AppError('not_found', `There is no update '${id}'. 'GET /admin/updates' lists the updates.`)
}

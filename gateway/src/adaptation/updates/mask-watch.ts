import { counted } from '@copal/shared/phrases.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import type { StoredTrial, StoredWatch } from '../../contracts/trial.ts'
import { listDecisionsOf, SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { findModel, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import {
  claimCheck,
  listWatchedModels,
  noteCheck,
  setTrials,
} from '../../storage/db/queries/trial-queries.ts'
import { findUpdate, type UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { judgeTrial } from '../trials/judge-trial.ts'
import { trialLimits, type TrialVerdict } from '../trials/trial-judge.ts'
import { rollBackTo } from './mask-rollback.ts'
import {
  CHECK_INTERVAL_MS,
  describeHarm,
  describeScored,
  evidenceOf,
  isCheckDue,
  liveNodes,
  nameOf,
  noteNodes,
} from './trial-check.ts'
import type { StepDeps } from './update-step.ts'

const MINUTE_MS = 60_000

/** Returns whether an operator has activated the mask of an update against the gate. */
export async function isForced(deps: Pick<StepDeps, 'db'>, { id }: UpdateRow): Promise<boolean> {
  return (await listDecisionsOf(deps.db, id)).some(({ kind }) => kind === 'force')
}

/**
 * Begins to watch the active mask of an update, with the mask before it as a shadow; starting it again changes nothing.
 *
 * A mask that follows the dense weights is not watched, because every mask is worse than those, and a forced one is not,
 * because an operator has decided.
 */
export async function startWatch(deps: StepDeps, update: UpdateRow, version: number): Promise<void> {
  for (;;) {
    const model = await findModel(deps.db, update.model)
    const beside = model?.previousVersion ?? 0
    if (!model || model.activeVersion !== version || beside === 0 || model.watch?.updateId === update.id)
      return
    const { watch: limits, canary } = await findPolicy(deps, update.model)
    if (limits.soak_minutes === 0 || (await isForced(deps, update))) return
    const sinceMs = deps.nowMs()
    const untilMs = sinceMs + limits.soak_minutes * MINUTE_MS
    const watch: StoredWatch = { version, beside, updateId: update.id, sinceMs, untilMs }
    const shadow: StoredTrial = {
      version: beside,
      share: canary.shadow_share,
      beside: version,
      sinceMs,
      updateId: update.id,
    }
    // An operator who was faster keeps the shadow; the watch then compares failures alone.
    const isTaken = trialsInForce(model).shadow !== undefined
    if (await setTrials(deps.db, model, { watch, ...(isTaken ? {} : { shadow }) })) return
  }
}

/**
 * Judges the masks that are watched, of one model or of all, and rolls back those that do harm. A watch ends after its
 * time, or when another mask becomes active. Errors are logged, and the next call tries again.
 */
export async function watchMasks(deps: StepDeps, onlyModel?: string): Promise<void> {
  for (const model of inRandomOrder(await listWatchedModels(deps.db, onlyModel))) {
    try {
      if (model.watch) await watchMask(deps, model, model.watch)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(
        `Mask m${model.watch?.version} of '${model.id}' could not be judged; trying again later:`,
        error,
      )
    }
  }
}

async function watchMask(deps: StepDeps, model: ModelRow, watch: StoredWatch): Promise<void> {
  if (watch.version !== model.activeVersion) {
    await endWatch(deps, model, watch)
    return
  }
  const { updateId, version, beside, sinceMs, untilMs } = watch
  const nowMs = deps.nowMs()
  const checked = { model: model.id, kind: 'watch', updateId } as const
  if (!isCheckDue(watch, nowMs)) return
  if (!(await claimCheck(deps.db, checked, nowMs, CHECK_INTERVAL_MS))) return
  const notes = noteNodes(watch, await liveNodes(deps, model.id), version, nowMs)
  const verdict = await judgeTrial(
    deps.db,
    {
      model: model.id,
      judged: version,
      reference: beside,
      active: 'judged',
      sinceMs,
      referenceFromMs: sinceMs - (untilMs - sinceMs),
    },
    trialLimits(await findPolicy(deps, model.id), beside),
  )
  await noteCheck(deps.db, checked, { ...notes, evidence: evidenceOf(verdict) })
  if (verdict.harmful.length > 0) {
    await rollBackWatched(deps, watch, model, verdict)
    return
  }
  // While its update waits for slower nodes, the watch goes on: otherwise the update would begin another one.
  if (nowMs < untilMs || (await findUpdate(deps.db, updateId))?.finishedAt === null) return
  const minutes = Math.round((untilMs - sinceMs) / MINUTE_MS)
  const reason = `No harm in ${counted(minutes, 'minute')}: ${describeScored(verdict)}.`
  await endWatch(deps, model, watch, {
    ...decisionOf(watch, verdict),
    verdict: 'done',
    reason,
    createdAt: nowMs,
  })
}

/** Rolls back a mask that does harm, unless another one became active meanwhile. */
async function rollBackWatched(deps: StepDeps, watch: StoredWatch, model: ModelRow, verdict: TrialVerdict) {
  const reason = `Rolled back: ${describeHarm(verdict, nameOf(watch.beside))}.`
  const decision = { ...decisionOf(watch, verdict), verdict: 'failed' as const, reason }
  for (let now: ModelRow | undefined = model; now?.activeVersion === watch.version;) {
    if (await rollBackTo(deps, now, watch.beside, decision)) return
    now = await findModel(deps.db, model.id)
  }
}

function decisionOf({ updateId, version }: StoredWatch, { figures }: TrialVerdict) {
  return { updateId, maskVersion: version, kind: 'watch' as const, figures, actor: SERVICE_ACTOR }
}

/** Ends a watch with its shadow. If the model has changed meanwhile, the next call does. */
async function endWatch(
  deps: StepDeps,
  model: ModelRow,
  { updateId }: StoredWatch,
  decision?: Parameters<typeof setTrials>[3],
): Promise<void> {
  const isOwn = model.shadow?.updateId === updateId
  await setTrials(deps.db, model, { watch: null, ...(isOwn ? { shadow: null } : {}) }, decision)
}

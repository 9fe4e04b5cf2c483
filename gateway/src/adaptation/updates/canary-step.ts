import { AppError } from '@copal/shared/errors.ts'
import { counted } from '@copal/shared/phrases.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { StoredTrial } from '../../contracts/trial.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { claimCheck, noteCheck, setTrials } from '../../storage/db/queries/trial-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { operatorTrial, trialsInForce } from '../../storage/db/trials-in-force.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { judgeTrial } from '../trials/judge-trial.ts'
import { trialLimits, type TrialVerdict } from '../trials/trial-judge.ts'
import {
  CHECK_INTERVAL_MS,
  describeHarm,
  describeScored,
  evidenceOf,
  isCheckDue,
  liveNodes,
  loadError,
  nameOf,
  noteNodes,
} from './trial-check.ts'
import { requireMaskVersion, requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/** A canary fails if no live node can load its mask for this time. */
const LOAD_TIMEOUT_MS = 120_000
const MINUTE_MS = 60_000
/** The calls that end an operator's trials. */
const END_CALLS = { canary: "'DELETE /admin/canary'", shadow: "'DELETE /admin/shadow'" } as const

/**
 * The step in which a mask that passed the gate answers a share of the conversations, and scores other requests beside the
 * active mask.
 *
 * It is rolled back as soon as harm is proven. It is approved when it is proven not to be worse, or after a maximum time
 * without harm. The trials are in the model's row and the evidence in scores and receipts, so any caller can go on.
 *
 * @throws AppError `conflict` if an operator's trial is running or another mask became active
 */
export async function canary(deps: StepDeps, update: UpdateRow): Promise<StepOutcome | undefined> {
  const version = requireMaskVersion(update)
  const model = await requireModel(deps, update)
  requireParent(model, update)
  const { canary: trial } = trialsInForce(model)
  if (trial?.updateId !== update.id) {
    await begin(deps, update, model, version)
    return undefined
  }
  const nowMs = deps.nowMs()
  const checked = { model: model.id, kind: 'canary', updateId: update.id } as const
  if (!isCheckDue(trial, nowMs)) return undefined
  if (!(await claimCheck(deps.db, checked, nowMs, CHECK_INTERVAL_MS))) return undefined
  const nodes = await liveNodes(deps, model.id)
  const notes = noteNodes(trial, nodes, version, nowMs)
  if (notes.unableSinceMs !== undefined && nowMs - notes.unableSinceMs >= LOAD_TIMEOUT_MS) {
    const reason =
      `No live node could load mask m${version} for ${LOAD_TIMEOUT_MS / 1_000} s, so it is not promoted. ` +
      loadError(nodes, version)
    const decision = { kind: 'canary', verdict: 'failed', reason, actor: SERVICE_ACTOR } as const
    return { event: 'failed', patch: { errorCode: 'node_failed', errorMessage: reason }, decision }
  }
  const policy = await findPolicy(deps, model.id)
  const verdict = await judgeTrial(
    deps.db,
    {
      model: model.id,
      judged: version,
      reference: model.activeVersion,
      active: 'reference',
      sinceMs: trial.sinceMs,
    },
    trialLimits(policy, model.activeVersion),
  )
  await noteCheck(deps.db, checked, { ...notes, evidence: evidenceOf(verdict) })
  return decide(verdict, policy, {
    beside: nameOf(model.activeVersion),
    servedMs: notes.servedSinceMs === undefined ? undefined : notes.servedMs + nowMs - notes.servedSinceMs,
  })
}

/** @param servedMs for how long live nodes have held the mask in all; undefined while none does */
function decide(
  verdict: TrialVerdict,
  { canary: limits }: AdaptationPolicy,
  { beside, servedMs }: { beside: string; servedMs: number | undefined },
): StepOutcome | undefined {
  const decision = { kind: 'canary', figures: verdict.figures, actor: SERVICE_ACTOR } as const
  if (verdict.harmful.length > 0) {
    const reason = `Rolled back: ${describeHarm(verdict, beside)}.`
    return { event: 'rolled_back', patch: {}, decision: { ...decision, verdict: 'failed', reason } }
  }
  if (servedMs === undefined) return undefined
  const minutes = Math.floor(servedMs / MINUTE_MS)
  const scored = describeScored(verdict)
  const isEnough =
    servedMs >= limits.min_minutes * MINUTE_MS && verdict.scoredTokens >= limits.min_scored_tokens
  const reason =
    verdict.proven && isEnough
      ? `Proven not worse than ${beside} after ${counted(minutes, 'minute')}: ${scored}.`
      : servedMs >= limits.max_minutes * MINUTE_MS
        ? `No harm in ${counted(limits.max_minutes, 'minute')}, the maximum of the policy: ${scored}.`
        : undefined
  return reason === undefined
    ? undefined
    : { event: 'approved', patch: {}, decision: { ...decision, verdict: 'passed', reason } }
}

/** Begins the trials. While the active mask is still watched, the update waits: its shadow is in use. */
async function begin(deps: StepDeps, update: UpdateRow, model: ModelRow, version: number): Promise<void> {
  if (model.watch?.version === model.activeVersion) return
  requireNoOperatorTrial(model, `The canary of m${version}`)
  const { share, shadow_share: shadowShare } = (await findPolicy(deps, model.id)).canary
  const trial: Omit<StoredTrial, 'share'> = {
    version,
    beside: model.activeVersion,
    sinceMs: deps.nowMs(),
    updateId: update.id,
  }
  const started = { canary: { ...trial, share }, shadow: { ...trial, share: shadowShare } }
  // If a row has changed, the next call tries again, unless the update has ended.
  await setTrials(deps.db, model, started, undefined, update)
}

/** @throws AppError `conflict` while an operator's trial is running, which is the obstacle to what is named */
export function requireNoOperatorTrial(model: ModelRow, what: string): void {
  const found = operatorTrial(model)
  if (!found) return
  const { kind, trial } = found
  throw new AppError(
    'conflict',
    `${what} could not start, because an operator's ${kind} of ${nameOf(trial.version)} is running. ` +
      `End it with ${END_CALLS[kind]}, and start the update again.`,
  )
}

/** The mask was selected and judged beside its parent, and is of no use beside another mask. */
function requireParent({ id, activeVersion }: ModelRow, { parentVersion }: UpdateRow): void {
  if (activeVersion === (parentVersion ?? 0)) return
  throw new AppError(
    'conflict',
    `The canary has ended, because ${nameOf(activeVersion)} of '${id}' became active, and this update began beside ` +
      `${nameOf(parentVersion ?? 0)}. Start it again.`,
  )
}

import type { TrialCourse } from '@copal/shared/wire/admin-trial-course.ts'
import { listDecisionsOf, type DecisionRow } from '../../storage/db/queries/decision-queries.ts'
import { findModel } from '../../storage/db/queries/model-queries.ts'
import { listScoredPrompts } from '../../storage/db/queries/trial-evidence-queries.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { StoredTrial, StoredWatch } from '../../contracts/trial.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { gapCourse } from './gap-course.ts'
import { MAX_SCORES } from './judge-trial.ts'
import { trialLimits } from './trial-judge.ts'

type CourseDeps = Pick<Deps, 'db' | 'adaptationPreset'>

/** A trial of an update, running or ended. */
interface UpdateTrial {
  kind: TrialCourse['kind']
  judged: number
  reference: number
  sinceMs: number
  running: boolean
  /** The decision that ended it. */
  end: DecisionRow | undefined
}

/**
 * Returns how the evidence of the trials of an update grew: its canary, and the watch of its mask after the promotion. Like
 * the verdicts, it is computed from the scores, so nothing is stored for it, and it ends with their retention.
 */
export async function trialCourses(deps: CourseDeps, update: UpdateRow): Promise<TrialCourse[]> {
  const [model, decisions] = await Promise.all([
    findModel(deps.db, update.model),
    listDecisionsOf(deps.db, update.id),
  ])
  if (!model) return []
  const trials = [
    trialOf('canary', update, trialsInForce(model).canary, decisions),
    trialOf('watch', update, model.watch, decisions),
  ]
  return Promise.all(trials.flatMap((trial) => (trial ? [courseOf(deps, update.model, trial)] : [])))
}

/** Returns a trial of an update, which runs or has ended; undefined if it had none. */
function trialOf(
  kind: UpdateTrial['kind'],
  update: UpdateRow,
  trial: StoredTrial | StoredWatch | null | undefined,
  decisions: readonly DecisionRow[],
): UpdateTrial | undefined {
  const running = trial?.updateId === update.id ? trial : undefined
  const end = decisions.find((decision) => decision.kind === kind)
  const judged = running?.version ?? end?.maskVersion
  if (judged == null) return undefined
  return {
    kind,
    judged,
    reference: running?.beside ?? update.parentVersion ?? 0,
    sinceMs: running?.sinceMs ?? update.createdAt,
    running: running !== undefined && end === undefined,
    end,
  }
}

/** Returns the limit of the gap over all traffic, which is the first figure of a verdict. */
function limitOf(end: DecisionRow | undefined): number | undefined {
  return end?.figures.find(({ name, domain }) => name === 'loss' && domain === null)?.limit ?? undefined
}

async function courseOf(deps: CourseDeps, model: string, trial: UpdateTrial): Promise<TrialCourse> {
  const { kind, judged, reference, sinceMs, running, end } = trial
  const isCanary = kind === 'canary'
  const policy = await findPolicy(deps, model)
  const limits = trialLimits(policy, reference)
  const versions = isCanary
    ? { maskVersion: reference, shadowVersion: judged }
    : { maskVersion: judged, shadowVersion: reference }
  // Later ones are of a trial of the same masks that an operator has started.
  const span = { fromMs: sinceMs, untilMs: end?.createdAt ?? Number.MAX_SAFE_INTEGER }
  const scores = await listScoredPrompts(deps.db, { model, ...versions }, span, MAX_SCORES)
  const timed = scores.map(({ conversation, tokens, nll, nllShadow, createdAt }) => ({
    conversation,
    tokens,
    gap: (isCanary ? nllShadow - nll : nll - nllShadow) / tokens,
    createdAtMs: createdAt,
  }))
  return {
    kind,
    mask_version: judged,
    beside_version: reference,
    running,
    limit: limitOf(end) ?? limits.maxGap,
    min_tokens: isCanary ? policy.canary.min_scored_tokens : null,
    points: gapCourse(timed, limits),
  }
}

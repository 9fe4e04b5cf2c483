import type { AppError } from '@copal/shared/errors.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { findJob } from '../../storage/db/queries/job-queries.ts'
import { findMask } from '../../storage/db/queries/mask-queries.ts'
import { SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import type { DecisionOfUpdate, UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import type { GateVerdict } from '../gate/gate-verdict.ts'
import { reselectionWeights } from '../gate/reselection-weights.ts'
import { isImport } from './gate-jobs.ts'
import { liveNodes } from './trial-check.ts'
import { calibrateJobId } from './update-jobs.ts'
import { requireMaskVersion, type StepDeps, type StepOutcome } from './update-step.ts'

/** Returns what follows from the verdict of the gate, with the decision that is stored. */
export async function gateOutcome(
  deps: StepDeps,
  update: UpdateRow,
  policy: AdaptationPolicy,
  { verdict, reason, figures, violations }: GateVerdict,
): Promise<StepOutcome> {
  const decision = { kind: 'gate', reason, figures, actor: SERVICE_ACTOR } as const
  if (verdict === 'passed') {
    const event = (await mustConfirm(deps, update, policy)) ? 'unconfirmed' : approval(policy, update)
    return { event, patch: {}, decision: { ...decision, verdict } }
  }
  const weights =
    update.candidate < policy.gate.max_candidates ? await nextWeights(deps, update, violations) : undefined
  if (weights) {
    return {
      event: 'reselected',
      patch: { candidate: update.candidate + 1, weights, maskVersion: null },
      decision: { ...decision, verdict: 'retried' },
    }
  }
  return rejection(update, { ...decision, verdict })
}

/** Returns the event of a mask that is approved: it becomes a canary, or active at once. One of a single domain has no canary. */
export function approval(
  policy: AdaptationPolicy,
  { ownDomain }: Pick<UpdateRow, 'ownDomain'>,
): 'canary_started' | 'approved' {
  return policy.canary.enabled && ownDomain === null ? 'canary_started' : 'approved'
}

/** Returns the end of an update whose mask is rejected. */
export function rejection(update: UpdateRow, decision: DecisionOfUpdate): StepOutcome {
  const attempts = update.candidate === 1 ? '' : ` It was candidate ${update.candidate} of this update.`
  const errorMessage =
    `Mask m${requireMaskVersion(update)} is rejected, and the active one stays in use. ${decision.reason}${attempts} ` +
    `'GET /admin/updates/${update.id}' shows what was measured.`
  return {
    event: 'failed',
    patch: { errorCode: 'gate_failed' satisfies AppError['code'], errorMessage },
    decision,
  }
}

/** Returns whether another node must select a mask too. An imported mask was selected elsewhere: no node could repeat that. */
export async function mustConfirm(
  deps: StepDeps,
  update: UpdateRow,
  { confirm }: AdaptationPolicy,
): Promise<boolean> {
  if (confirm === 1 || (await isImport(deps, update))) return false
  return confirm === 2 || (await liveNodes(deps, update.model)).length >= 2
}

async function nextWeights(deps: StepDeps, update: UpdateRow, violations: GateVerdict['violations']) {
  if (violations.length === 0) return undefined
  const [mask, parent, job] = await readTogether(deps.db, (db) => [
    findMask(db, update.model, requireMaskVersion(update)),
    update.parentVersion ? findMask(db, update.model, update.parentVersion) : undefined,
    findJob(db, calibrateJobId(update)),
  ])
  if (!mask || job?.payload.kind !== 'calibrate') return undefined
  const weights = job.payload.selection.weights ?? {}
  return reselectionWeights({ domains: mask.domains, known: parent?.domains ?? [], weights }, violations)
}

import { gateVerdict } from '../gate/gate-verdict.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { ownMaskVerdict } from '../gate/own-mask-verdict.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { ownMaskOutcome } from './own-mask-step.ts'
import { queueEvaluations, queueReferences } from './gate-jobs.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { measure } from './gate-measurements.ts'
import { gateOutcome } from './gate-outcome.ts'
import {
  evaluateDenseJobId,
  evaluateJobId,
  evaluateParentJobId,
  type FinishedJob,
  type JobStep,
} from './update-jobs.ts'
import { findUnjudged, withUnjudged } from './unjudged-domains.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/**
 * The step in which nodes evaluate the mask on the holdouts, and the active mask and the dense model on holdouts without
 * such an evaluation. The gate then decides whether the mask may serve.
 */
export const evaluateStep: JobStep = {
  jobIds: (update) => [evaluateJobId(update), evaluateParentJobId(update), evaluateDenseJobId(update)],
  start: queueEvaluations,
  finish: decide,
}

async function decide(
  deps: StepDeps,
  update: UpdateRow,
  finished: FinishedJob[],
): Promise<StepOutcome | undefined> {
  const find = (id: string) => finished.find(({ job }) => job.id === id)
  const candidate = find(evaluateJobId(update))
  if (!candidate) return undefined
  // Missing only if the gateway stopped between storing the first job and the others.
  if (!(await queueReferences(deps, update, candidate.job, finished))) return undefined
  const parent = find(evaluateParentJobId(update))
  const dense = find(evaluateDenseJobId(update))
  const measured = await measure(deps, update, { candidate, parent, dense })
  if (update.ownDomain !== null) {
    const { own_mask_gain: minGain } = (await findPolicy(deps, update.model)).discovery
    return ownMaskOutcome(deps, update, ownMaskVerdict(measured, { domain: update.ownDomain, minGain }))
  }
  const verdict = gateVerdict(measured)
  const windowTokens = evaluationWindow(await requireModel(deps, update))
  const unjudged = await findUnjudged(deps, candidate.job, windowTokens)
  return gateOutcome(deps, update, withUnjudged(verdict, unjudged))
}

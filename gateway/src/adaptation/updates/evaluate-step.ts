import { gateVerdict } from '../gate/gate-verdict.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { ownMaskVerdict } from '../gate/own-mask-verdict.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { ownMaskOutcome } from './own-mask-step.ts'
import { listCellsOfJob, queueEvaluations, queueReferences } from './gate-jobs.ts'
import { evaluationWindow } from './evaluation-window.ts'
import { measure, recordLosses } from './gate-measurements.ts'
import { gateOutcome } from './gate-outcome.ts'
import {
  evaluateBestJobIds,
  evaluateDenseJobIds,
  evaluateJobId,
  evaluateParentJobIds,
  type FinishedJob,
  type JobStep,
} from './update-jobs.ts'
import { findUnjudged, withUnjudged } from './unjudged-domains.ts'
import { requireModel, type StepDeps, type StepOutcome } from './update-step.ts'

/**
 * The step in which nodes evaluate the mask on the holdouts, and the active mask, the dense model and the best earlier masks on
 * holdouts without such an evaluation. The gate then decides whether the mask may serve.
 */
export const evaluateStep: JobStep = {
  jobIds: (update) => [
    evaluateJobId(update),
    ...evaluateParentJobIds(update),
    ...evaluateDenseJobIds(update),
    ...evaluateBestJobIds(update),
  ],
  // The file of an earlier mask may be lost.
  optionalJobIds: evaluateBestJobIds,
  start: queueEvaluations,
  finish: decide,
}

async function decide(
  deps: StepDeps,
  update: UpdateRow,
  finished: FinishedJob[],
): Promise<StepOutcome | undefined> {
  const ended = (ids: readonly string[]) => finished.filter(({ job }) => ids.includes(job.id))
  const [candidate] = ended([evaluateJobId(update)])
  if (!candidate) return undefined
  const jobs = {
    candidate,
    parent: ended(evaluateParentJobIds(update)),
    dense: ended(evaluateDenseJobIds(update)),
    best: ended(evaluateBestJobIds(update)),
  }
  await recordLosses(deps, update, jobs)
  const cells = await listCellsOfJob(deps, candidate.job)
  // Missing if what is known has other numerics, or the gateway stopped between storing the first job and the others.
  if (!(await queueReferences(deps, update, candidate.job, { cells, finished }))) return undefined
  const [policy, model] = await readTogether(deps.db, (db) => [
    findPolicy({ ...deps, db }, update.model),
    requireModel({ db }, update),
  ])
  const measured = await measure(deps, update, jobs, { cells, policy: policy.gate })
  if (update.ownDomain !== null) {
    const { own_mask_gain: minGain } = policy.discovery
    const verdict = ownMaskVerdict(measured, { domain: update.ownDomain, minGain })
    return ownMaskOutcome(deps, update, policy, verdict)
  }
  const unjudged = await findUnjudged(deps, candidate.job, evaluationWindow(model))
  return gateOutcome(deps, update, policy, withUnjudged(gateVerdict(measured), unjudged))
}

import { figure } from '../gate/gate-figures.ts'
import { gateVerdict, type GateVerdict } from '../gate/gate-verdict.ts'
import type { UpdateRow } from '../../storage/db/queries/update-queries.ts'
import { ownMaskVerdict } from '../gate/own-mask-verdict.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { ownMaskOutcome } from './own-mask-step.ts'
import { leftOutDomains, queueEvaluations, queueReferences } from './gate-jobs.ts'
import { measure } from './gate-measurements.ts'
import { gateOutcome } from './gate-outcome.ts'
import {
  evaluateDenseJobId,
  evaluateJobId,
  evaluateParentJobId,
  type FinishedJob,
  type JobStep,
} from './update-jobs.ts'
import type { StepDeps, StepOutcome } from './update-step.ts'

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
  if (!(await queueReferences(deps, update, candidate.job))) return undefined
  const parent = find(evaluateParentJobId(update))
  const dense = find(evaluateDenseJobId(update))
  const measured = await measure(deps, update, { candidate, parent, dense })
  if (update.ownDomain !== null) {
    const { own_mask_gain: minGain } = (await findPolicy(deps, update.model)).discovery
    return ownMaskOutcome(deps, update, ownMaskVerdict(measured, { domain: update.ownDomain, minGain }))
  }
  const verdict = gateVerdict(measured)
  const leftOut = await leftOutDomains(deps, candidate.job)
  return gateOutcome(deps, update, leftOut.length === 0 ? verdict : withLeftOut(verdict, leftOut))
}

/** Domains that a verdict names at most as not evaluated. */
const MAX_NAMED = 32

/** Adds to a verdict which domains it says nothing about. */
function withLeftOut(verdict: GateVerdict, domains: readonly string[]): GateVerdict {
  const { length } = domains
  const unnamed = Math.max(0, length - MAX_NAMED)
  const others = unnamed === 0 ? '' : `, and ${unnamed} ${unnamed === 1 ? 'other' : 'others'}`
  const names = `${domains.slice(0, MAX_NAMED).join(', ')}${others}`
  const note = `not evaluated, because of effort.max_holdouts: ${names}`
  const reason = `${verdict.reason} ${length === 1 ? 'One domain was' : `${length} domains were`} not evaluated.`
  return {
    ...verdict,
    reason,
    figures: [...verdict.figures, figure('holdouts left out', true, { value: length, note })],
  }
}

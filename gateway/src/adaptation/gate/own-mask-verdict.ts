import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { boundMean, meanDifference } from '@copal/shared/metrics/paired-bound.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import { candidateConfidence, confidenceName } from './candidate-confidence.ts'
import { pair } from './comparison-groups.ts'
import { COMPARISONS, figure, numericsFigures, ofHoldout, pointFigure, ratioFigure } from './gate-figures.ts'
import type { GateHoldout, GateInput } from './gate-input.ts'
import { describeVerdict } from './gate-reason.ts'
import type { GateVerdict } from './gate-verdict.ts'
import { isFiniteLoss, soundnessFigures } from './soundness.ts'

/** The gain that a mask of a single domain must reach. */
export interface OwnMaskDemand {
  domain: string
  /** Least perplexity under the shared mask relative to that under this one, as a lower bound. */
  minGain: number
}

/** Decides whether a mask may serve one domain instead of the shared one, which is the parent. A pure function. */
export function ownMaskVerdict(input: GateInput, demand: OwnMaskDemand): GateVerdict {
  const { holdouts, policy } = input
  const confidence = candidateConfidence(policy.confidence, input.candidate)
  const own = holdouts.find(({ domain }) => domain === demand.domain)
  const general = holdouts.find(({ domain }) => domain === GENERAL_HOLDOUT)
  const isFinite = holdouts.every((holdout) => isFiniteLoss(holdout.candidate))
  const gain = own
    ? gainFigure(own, confidence, demand.minGain)
    : figure('held-out text', false, { value: 0, note: 'there is none to compare on' })
  const numerics = numericsFigures(input.otherNumerics)
  const figures = [
    ...soundnessFigures(input),
    ...numerics,
    ...(isFinite && numerics.length === 0
      ? [gain, ...(general ? [againstDense(general, policy.max_dense_ratio)] : [])]
      : []),
  ]
  const passed = figures.every((each) => each.passed)
  return {
    verdict: passed ? 'passed' : 'failed',
    reason: passed ? describeGain(gain, demand, confidence) : describeVerdict(figures, confidence),
    figures,
    violations: [],
  }
}

/** Compares a domain's own mask, the candidate, with the shared one, the parent: the upper bound of the ratio must be low. */
export function gainFigure(holdout: GateHoldout, confidence: number, minGain: number): DecisionFigure {
  const { parent } = holdout
  const limit = 1 / minGain
  if (!parent?.windowNll) {
    const note = 'the shared mask has no finite loss to compare with'
    return figure(COMPARISONS.own, false, { ...ofHoldout(holdout), limit, note })
  }
  const estimate = meanDifference(pair(holdout, parent))
  return ratioFigure(COMPARISONS.own, boundMean(estimate, confidence), limit, ofHoldout(holdout))
}

function againstDense(holdout: GateHoldout, maxRatio: number): DecisionFigure {
  const { candidate, dense } = holdout
  const logRatio = (candidate.nllMean ?? Number.NaN) - (dense?.nllMean ?? Number.NaN)
  return pointFigure(COMPARISONS.dense, logRatio, maxRatio, ofHoldout(holdout))
}

/** Describes by how much a domain gains by its own mask. */
export function describeGain(
  { value, upper }: DecisionFigure,
  { domain, minGain }: OwnMaskDemand,
  confidence: number,
): string {
  const times = (ratio: number | null) => (ratio === null ? 'unknown' : `${(1 / ratio).toFixed(3)} ×`)
  return (
    `The perplexity of '${domain}' under the shared mask is ${times(value)} that under its own, and with ` +
    `${confidenceName(confidence)} confidence at least ${times(upper)}; at least ${minGain.toFixed(3)} × is required.`
  )
}

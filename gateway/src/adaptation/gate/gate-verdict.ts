import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import {
  boundMean,
  meanDifference,
  pooledMeanDifference,
  weightedMean,
  type MeanEstimate,
  type PairedWindows,
} from '@copal/shared/metrics/paired-bound.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import {
  COMPARISONS,
  figure,
  ofHoldout,
  pointFigure,
  ratioFigure,
  SOUNDNESS_FIGURES,
} from './gate-figures.ts'
import type { GateHoldout, GateInput, HoldoutLosses } from './gate-input.ts'
import { describeVerdict } from './gate-reason.ts'
import { isFiniteLoss, soundnessFigures } from './soundness.ts'

/** A domain with fewer held-out tokens is bounded together with other such domains. */
const FULL_HOLDOUT_TOKENS = 8192
/** Maximum perplexity of such a domain, relative to the parent's. */
const MAX_SMALL_REGRESSION = 1.1
/**
 * Bounds of constraints are computed for this share of the error that the policy allows: at 96 % confidence for 95 %.
 * Window differences are not quite normal, so with the whole error one of the measured losses would pass a little more
 * often than is allowed (docs/measurements/gate.md).
 */
const USED_ERROR = 0.8
/** A mask this much above its limit against the dense model is damaged as a whole: other domain weights do not mend it. */
const MENDABLE_DENSE_EXCESS = Math.log(3)

/** A domain on which the mask lost more than it may. */
export interface Violation {
  domain: string
  /** How much more, nats a token. */
  excess: number
}

/** The result of the gate. */
export interface GateVerdict {
  verdict: 'passed' | 'failed'
  /** A sentence for people. */
  reason: string
  figures: DecisionFigure[]
  /** Domains that a selection with other weights could help; empty where it cannot. */
  violations: Violation[]
}

/** A part of the verdict. */
interface Check {
  figures: DecisionFigure[]
  violations: Violation[]
}

/** Decides whether a mask may serve. A pure function. */
export function gateVerdict(input: GateInput): GateVerdict {
  const { holdouts } = input
  const soundness = soundnessFigures(input)
  const isMeasured = holdouts.length > 0
  const isFinite = holdouts.every((holdout) => isFiniteLoss(holdout.candidate))
  const checks = isFinite && isMeasured ? comparisons(input) : []
  const figures = [
    ...soundness,
    ...(isMeasured
      ? []
      : [figure('held-out text', false, { value: 0, note: 'there is none to compare on' })]),
    ...checks.flatMap((check) => check.figures),
  ]
  const violations = checks.flatMap((check) => check.violations)
  const isHopeless =
    soundness.some(({ passed }) => !passed) ||
    figures.some(({ name, value, limit }) => {
      if (name !== COMPARISONS.dense || limit === null) return false
      return value === null || Math.log(value / limit) > MENDABLE_DENSE_EXCESS
    })
  return {
    verdict: figures.every(({ passed }) => passed) ? 'passed' : 'failed',
    reason: describeVerdict(figures, input.policy.confidence),
    figures,
    violations: isHopeless ? [] : violations,
  }
}

/** Returns whether the figures of a rejected mask allow an operator to force it: it is worse, but it gives text. */
export function isForceable(figures: readonly DecisionFigure[]): boolean {
  return SOUNDNESS_FIGURES.every((name) => figures.some((each) => each.name === name && each.passed))
}

/** Holdouts without a parent are compared with the dense model alone: all of them for the first mask of a model. */
function comparisons(input: GateInput): Check[] {
  const { holdouts, policy } = input
  const old = holdouts.filter(({ isNew, parent }) => !isNew && parent)
  const ofDense = holdouts.filter(({ domain, parent }) => domain === GENERAL_HOLDOUT || !parent)
  return [
    purpose(input),
    constraints(input, old, COMPARISONS.parent, policy.max_regression, ({ parent }) => parent),
    constraints(input, old, COMPARISONS.best, policy.max_regression_from_best, ({ best }) => best),
    againstDense(input, ofDense),
  ]
}

/** The reason for an update: the mean loss over all domains falls, or with known domains only hardly rises. */
function purpose({ holdouts, policy }: GateInput): Check {
  const ofDomains = holdouts.filter(({ domain }) => domain !== GENERAL_HOLDOUT)
  const counted = (ofDomains.length > 0 ? ofDomains : holdouts).flatMap((holdout) => {
    const weight = ofDomains.length > 0 ? holdout.weight : 1
    return holdout.parent && weight > 0 ? [{ holdout, weight, windows: pair(holdout, holdout.parent) }] : []
  })
  if (counted.length === 0) return { figures: [], violations: [] }
  const small = counted.filter(({ holdout }) => isSmall(holdout))
  const estimate = weightedMean([
    ...counted
      .filter(({ holdout }) => !isSmall(holdout))
      .map(({ weight, windows }) => ({ weight, estimate: meanDifference(windows) })),
    ...(small.length === 0
      ? []
      : [
          {
            weight: small.reduce((sum, { weight }) => sum + weight, 0),
            estimate: pooledMeanDifference(small),
          },
        ]),
  ])
  const isRefresh = !counted.some(({ holdout }) => holdout.isNew)
  const limit = isRefresh ? policy.max_refresh_regression : 1
  const bounded = boundMean(estimate, policy.confidence)
  const result = ratioFigure(COMPARISONS.purpose, bounded, limit, {}, !isRefresh)
  const worse = counted.flatMap(({ holdout: { domain }, windows }) => {
    const { mean } = meanDifference(windows)
    return mean > 0 ? [{ domain, excess: mean }] : []
  })
  return { figures: [result], violations: result.passed ? [] : worse }
}

/** Compares each holdout with the same one under another mask, small ones together. */
function constraints(
  { policy }: GateInput,
  holdouts: readonly GateHoldout[],
  name: string,
  limit: number,
  referenceOf: (holdout: GateHoldout) => (HoldoutLosses & { version?: number }) | undefined,
): Check {
  const compared = holdouts.flatMap((holdout) => {
    const reference = referenceOf(holdout)
    return reference ? [{ holdout, reference, windows: pair(holdout, reference) }] : []
  })
  const bounded = (estimate: MeanEstimate, rest: Partial<DecisionFigure>) =>
    ratioFigure(name, boundMean(estimate, 1 - USED_ERROR * (1 - policy.confidence)), limit, rest)
  const check: Check = { figures: [], violations: [] }
  const add = (result: DecisionFigure, domains: readonly string[]) => {
    check.figures.push(result)
    if (result.passed) return
    const reached = result.upper ?? result.value ?? Number.POSITIVE_INFINITY
    const excess = Math.log(reached / (result.limit ?? 1))
    check.violations.push(...domains.map((domain) => ({ domain, excess })))
  }
  for (const { holdout, reference, windows } of compared.filter((each) => !isSmall(each.holdout))) {
    const note = reference.version === undefined ? {} : { note: `m${reference.version}` }
    add(bounded(meanDifference(windows), { ...ofHoldout(holdout), ...note }), [holdout.domain])
  }
  const small = compared.filter(({ holdout }) => isSmall(holdout))
  if (small.length > 0) {
    const pooled = pooledMeanDifference(
      small.map(({ windows }) => ({
        windows,
        weight: windows.tokens.reduce((sum, tokens) => sum + tokens, 0),
      })),
    )
    const [only] = small
    const where =
      small.length === 1 && only
        ? ofHoldout(only.holdout)
        : { note: `together: ${small.map(({ holdout }) => holdout.domain).join(', ')}` }
    const worst = small.filter(({ windows }) => meanDifference(windows).mean >= pooled.mean)
    add(
      bounded(pooled, where),
      worst.map(({ holdout }) => holdout.domain),
    )
  }
  if (name === COMPARISONS.parent) {
    for (const { holdout, windows } of small) {
      const note = `fewer than ${FULL_HOLDOUT_TOKENS} tokens: its own estimate`
      const own = pointFigure(name, meanDifference(windows).mean, MAX_SMALL_REGRESSION, {
        ...ofHoldout(holdout),
        note,
      })
      add({ ...own, passed: (own.value ?? Number.POSITIVE_INFINITY) < MAX_SMALL_REGRESSION }, [
        holdout.domain,
      ])
    }
  }
  return check
}

/** Compares point estimates with the dense model, which any pruning makes worse. */
function againstDense({ policy }: GateInput, holdouts: readonly GateHoldout[]): Check {
  const figures = holdouts.map((holdout) => {
    const { candidate, dense } = holdout
    const logRatio = (candidate.nllMean ?? Number.NaN) - (dense?.nllMean ?? Number.NaN)
    return pointFigure(COMPARISONS.dense, logRatio, policy.max_dense_ratio, ofHoldout(holdout))
  })
  const violations = figures.flatMap(({ domain, value, limit, passed }) =>
    passed || domain === null || value === null ? [] : [{ domain, excess: Math.log(value / (limit ?? 1)) }],
  )
  return { figures, violations }
}

/** The first token of a window is context only and not scored, but it is held-out text. */
function isSmall({ windowTokens }: GateHoldout): boolean {
  return windowTokens.reduce((sum, tokens) => sum + tokens + 1, 0) < FULL_HOLDOUT_TOKENS
}

function pair({ candidate, windowTokens }: GateHoldout, reference: HoldoutLosses | undefined): PairedWindows {
  return {
    candidate: finite(candidate.windowNll),
    reference: finite(reference?.windowNll),
    tokens: windowTokens,
  }
}

function finite(losses: readonly (number | null)[] | null | undefined): number[] {
  return (losses ?? []).map((loss) => loss ?? Number.NaN)
}

import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { boundMean, meanDifference, weightedMean } from '@copal/shared/metrics/paired-bound.ts'
import { perplexity } from '@copal/shared/metrics/perplexity.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import { groupsOf, pair, type Compared, type ComparisonGroup } from './comparison-groups.ts'
import {
  COMPARISONS,
  figure,
  numericsFigures,
  ofHoldout,
  pointFigure,
  ratioFigure,
  SOUNDNESS_FIGURES,
  TOGETHER,
} from './gate-figures.ts'
import { candidateConfidence, confidenceName } from './candidate-confidence.ts'
import { describeDecidingWindow } from './deciding-window.ts'
import type { GateHoldout, GateInput, HoldoutLosses } from './gate-input.ts'
import { describeVerdict } from './gate-reason.ts'
import { isFiniteLoss, soundnessFigures } from './soundness.ts'

/** Maximum perplexity of a domain with a small holdout, relative to the parent's, unless the policy allows even bounds more. */
const MAX_SMALL_REGRESSION = 1.1
const FEW_WINDOWS = 'too few windows for a bound'
/**
 * Bounds of constraints are computed for this share of the candidate's error: at 97.4 % confidence for 96.8 %.
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

/** Decides whether a mask may serve, and says which window of held-out text alone speaks against it. A pure function. */
export function gateVerdict(input: GateInput): GateVerdict {
  const verdict = judge(input)
  const failed = verdict.figures.filter(({ passed }) => !passed)
  if (failed.length === 0) return verdict
  const deciding = describeDecidingWindow(input, failed, (other) => judge(other).verdict === 'passed')
  return deciding === undefined ? verdict : { ...verdict, reason: `${verdict.reason} ${deciding}` }
}

/** Decides whether a mask may serve. A pure function. */
export function judge(input: GateInput): GateVerdict {
  const { holdouts } = input
  const soundness = soundnessFigures(input)
  const isMeasured = holdouts.length > 0
  const isFinite = holdouts.every((holdout) => isFiniteLoss(holdout.candidate))
  const numerics = numericsFigures(input.otherNumerics)
  const checks = isFinite && isMeasured && numerics.length === 0 ? comparisons(input) : []
  const figures = [
    ...soundness,
    ...numerics,
    ...(isMeasured
      ? []
      : [figure('held-out text', false, { value: 0, note: 'there is none to compare on' })]),
    ...checks.flatMap((check) => check.figures),
  ]
  const violations = checks.flatMap((check) => check.violations)
  const confidence = candidateConfidence(input.policy.confidence, input.candidate)
  const later =
    input.candidate > 1 && figures.some(({ upper }) => upper !== null)
      ? ` It is candidate ${input.candidate} beside the active mask, so its bounds have ${confidenceName(confidence)} confidence.`
      : ''
  const isHopeless =
    soundness.some(({ passed }) => !passed) ||
    figures.some(({ name, value, limit }) => {
      if (name !== COMPARISONS.dense || limit === null) return false
      return value === null || Math.log(value / limit) > MENDABLE_DENSE_EXCESS
    })
  return {
    verdict: figures.every(({ passed }) => passed) ? 'passed' : 'failed',
    reason: describeVerdict(figures, confidence) + later,
    figures,
    violations: isHopeless ? [] : violations,
  }
}

/** Returns whether the figures of a rejected mask allow an operator to force it: it is worse, but it gives text. */
export function isForceableDecision(figures: readonly DecisionFigure[]): boolean {
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

/**
 * The reason for an update: the mean loss over all domains falls, or with known domains only hardly rises. Small domains
 * with too few windows for a bound are left out as long as others remain.
 */
function purpose({ holdouts, policy, candidate }: GateInput): Check {
  const ofDomains = holdouts.filter(({ domain }) => domain !== GENERAL_HOLDOUT)
  const groups = groupsOf(
    (ofDomains.length > 0 ? ofDomains : holdouts).flatMap((holdout) => {
      const weight = ofDomains.length > 0 ? holdout.weight : 1
      return holdout.parent && weight > 0 ? [{ holdout, weight, windows: pair(holdout, holdout.parent) }] : []
    }),
  )
  if (groups.length === 0) return { figures: [], violations: [] }
  const bounded = groups.filter(({ hasBound }) => hasBound)
  const counted = bounded.length > 0 ? bounded : groups
  const omitted = groups.filter((group) => !counted.includes(group)).flatMap(({ members }) => members)
  const members = counted.flatMap((group) => group.members)
  const estimate = weightedMean(
    counted.map((group) => ({
      weight: group.members.reduce((sum, { weight }) => sum + weight, 0),
      estimate: group.estimate,
    })),
  )
  const isRefresh = !members.some(({ holdout }) => holdout.isNew)
  const limit = isRefresh ? policy.max_refresh_regression : 1
  const note = omitted.length === 0 ? {} : { note: `without ${namesOf(omitted)}: ${FEW_WINDOWS}` }
  const result = ratioFigure(
    COMPARISONS.purpose,
    boundMean(estimate, candidateConfidence(policy.confidence, candidate)),
    limit,
    note,
    !isRefresh,
  )
  const worse = members.flatMap(({ holdout: { domain }, windows }) => {
    const { mean } = meanDifference(windows)
    return mean > 0 ? [{ domain, excess: mean }] : []
  })
  // A new domain has no constraint, so that nothing else would look at it.
  const ofNew = omitted
    .filter(({ holdout }) => holdout.isNew)
    .map((each) => ({
      domain: each.holdout.domain,
      result: smallFigure(each, policy, `${FEW_WINDOWS}: its own estimate`),
    }))
  return {
    figures: [result, ...ofNew.map((each) => each.result)],
    violations: [
      ...(result.passed ? [] : worse),
      ...ofNew.flatMap((each) => violationsOf(each.result, [each.domain])),
    ],
  }
}

/** Compares each holdout with the same one under another mask, small ones together. */
function constraints(
  { policy, candidate }: GateInput,
  holdouts: readonly GateHoldout[],
  name: string,
  limit: number,
  referenceOf: (holdout: GateHoldout) => (HoldoutLosses & { version?: number }) | undefined,
): Check {
  const compared = holdouts.flatMap((holdout) => {
    const reference = referenceOf(holdout)
    if (!reference) return []
    const windows = pair(holdout, reference)
    const weight = windows.tokens.reduce((sum, tokens) => sum + tokens, 0)
    const mask = reference.version === undefined ? undefined : `m${reference.version}`
    return [{ holdout, windows, weight, mask }]
  })
  const confidenceOf = (place: number) => 1 - USED_ERROR * (1 - candidateConfidence(policy.confidence, place))
  const check: Check = { figures: [], violations: [] }
  const add = (result: DecisionFigure, domains: readonly string[], next?: number) => {
    check.figures.push(result)
    check.violations.push(...violationsOf(result, domains, next))
  }
  for (const group of groupsOf(compared)) {
    const { members, estimate, hasBound } = group
    if (hasBound) {
      const bounded = boundMean(estimate, confidenceOf(candidate))
      const nextUpper = perplexity(boundMean(estimate, confidenceOf(candidate + 1)).upper)
      add(ratioFigure(name, bounded, limit, ofGroup(group)), losersOf(group), nextUpper)
    }
    if (!group.isSmall || (hasBound && name !== COMPARISONS.parent)) continue
    for (const each of members) {
      const note = `${hasBound ? 'a small holdout' : FEW_WINDOWS}: its own estimate`
      const result =
        name === COMPARISONS.parent
          ? smallFigure(each, policy, note)
          : pointFigure(name, meanDifference(each.windows).mean, limit, {
              ...ofHoldout(each.holdout),
              note: each.mask === undefined ? note : `${each.mask}; ${note}`,
            })
      add(result, [each.holdout.domain])
    }
  }
  return check
}

/**
 * Returns the domains that made a group lose. These are all that lost, because the one that lost most may be the general
 * holdout, which no weight of a domain is for. If none lost, only the bound is too wide, and the worst domains are returned.
 */
function losersOf({ members, estimate }: ComparisonGroup<Compared>): string[] {
  const means = members.map(({ holdout, windows }) => ({
    domain: holdout.domain,
    mean: meanDifference(windows).mean,
  }))
  const lost = means.filter(({ mean }) => mean > 0)
  const losers = lost.length > 0 ? lost : means.filter(({ mean }) => mean >= estimate.mean)
  return losers.map(({ domain }) => domain)
}

/** Creates the figure of a small domain by itself, which has no bound. */
function smallFigure(
  { holdout, windows }: Compared,
  policy: GateInput['policy'],
  note: string,
): DecisionFigure {
  const limit = Math.max(MAX_SMALL_REGRESSION, policy.max_regression)
  const own = pointFigure(COMPARISONS.parent, meanDifference(windows).mean, limit, {
    ...ofHoldout(holdout),
    note,
  })
  return { ...own, passed: (own.value ?? Number.POSITIVE_INFINITY) < limit }
}

/** Returns the part of a figure that names what is bounded together, and the mask of a comparison with an earlier one. */
function ofGroup({
  members,
}: ComparisonGroup<Compared & { mask: string | undefined }>): Partial<DecisionFigure> {
  const [first, ...others] = members
  if (!first || others.length > 0) return { note: `${TOGETHER}${namesOf(members)}` }
  return { ...ofHoldout(first.holdout), ...(first.mask === undefined ? {} : { note: first.mask }) }
}

function namesOf(compared: readonly Compared[]): string {
  return compared.map(({ holdout }) => holdout.domain).join(', ')
}

/**
 * Returns by how much domains lost more than allowed, according to a figure of theirs.
 *
 * @param nextUpper the upper bound as the next candidate has it, which is wider
 */
function violationsOf(
  { passed, upper, value, limit }: DecisionFigure,
  domains: readonly string[],
  nextUpper?: number,
) {
  if (passed) return []
  const excess = Math.log((nextUpper ?? upper ?? value ?? Number.POSITIVE_INFINITY) / (limit ?? 1))
  return domains.map((domain): Violation => ({ domain, excess }))
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

import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { boundsOf, type Bounds, type UnitSums } from './confidence-sequence.ts'

/** Gaps beyond are counted as this many nats a token, so that they are bounded; see {@link maxGapFor}. */
const MAX_GAP = 0.5
/** Fewest scored conversations of a domain that must be proven not worse. */
const MIN_DOMAIN_CONVERSATIONS = 50
/** How many more of its requests may fail. */
const FAILURE_MARGIN = 0.01
/** How many more of its requests may be slow. */
const SLOW_MARGIN = 0.1

/** The two sides of a trial: the mask that is judged, and the mask that it is compared with. */
export type TrialSide = 'judged' | 'reference'

/**
 * The gaps of requests that were scored under both masks, as sums over their conversations: the gap of a conversation is the mean of its
 * requests' gaps, each as {@link toUnit} returns it.
 */
export interface GapSums extends UnitSums {
  /** Null for all of them. */
  domain: string | null
  requests: number
  tokens: number
}

/** What happened to the requests that a mask answered, or failed to answer: shares of each conversation's requests, summed. */
export interface AttemptSums {
  failed: UnitSums
  slowFirstToken: UnitSums
  slowTokens: UnitSums
}

/** The evidence of a trial. */
export interface TrialSums {
  all: GapSums
  /** In the order in which the domains appeared. */
  domains: readonly GapSums[]
  attempts: Record<TrialSide, AttemptSums>
}

/** Limits of a trial, in nats a token, and the probability of a wrong roll-back. */
export interface TrialLimits {
  maxDomainGap: number
  maxGap: number
  falseAlarm: number
}

/** The verdict on a trial so far, with its figures. */
export interface TrialVerdict {
  /** Figures that prove harm: with any, the mask is rolled back. */
  harmful: DecisionFigure[]
  /** Whether the losses of all traffic and of each domain with enough requests are proven to be within their limits. */
  proven: boolean
  /** All figures, the gap of all traffic first. */
  figures: DecisionFigure[]
  scoredRequests: number
  scoredTokens: number
}

/** Returns the limits of a policy beside a mask, or beside the dense weights (version 0), which every mask is worse than. */
export function trialLimits(
  { gate, canary }: Pick<AdaptationPolicy, 'gate' | 'canary'>,
  beside: number,
): TrialLimits {
  const [maxDomainGap, maxGap] =
    beside === 0
      ? [gate.max_dense_ratio, gate.max_dense_ratio]
      : [gate.max_regression, gate.max_refresh_regression]
  return {
    maxDomainGap: Math.log(maxDomainGap),
    maxGap: Math.log(maxGap),
    falseAlarm: canary.false_alarm,
  }
}

/** The sums of no request. */
export const NO_VALUES: UnitSums = { count: 0, sum: 0, squares: 0 }

/**
 * Judges a mask by the requests of a trial.
 *
 * The unit is the conversation: what its requests have in common would otherwise count as often as it has requests, and the
 * bounds would be too narrow. A client that repeats a failing request counts once.
 *
 * Every figure has a confidence sequence, so one may judge after every request. The probability of a false alarm is split
 * over the figures, and by the union bound their sum bounds that of a wrong roll-back: a quarter for the gap of all
 * traffic, a quarter for those of domains (the k-th domain to appear gets 1/(k(k+1)) of it, so that their number need not
 * be known), and a sixth each for failures, times to first token and inter-token latencies (half for either mask).
 *
 * @param judgesTimes false where the masks served at different times: then a host that has become slower makes requests slow,
 * and their figures have no limit
 */
export function judgeSums(
  { all, domains, attempts }: TrialSums,
  limits: TrialLimits,
  { judgesTimes = true }: { judgesTimes?: boolean } = {},
): TrialVerdict {
  const { maxGap, maxDomainGap, falseAlarm } = limits
  const gap = boundsOf(all, falseAlarm / 4)
  const ofDomains = domains.map((sums, index) => ({
    sums,
    bounds: boundsOf(sums, falseAlarm / 4 / ((index + 1) * (index + 2))),
  }))
  const compare = (name: string, figure: keyof AttemptSums, margin: number | null) =>
    comparisonFigure(name, attempts.judged[figure], attempts.reference[figure], {
      alpha: falseAlarm / 12,
      margin,
    })
  const slowMargin = judgesTimes ? SLOW_MARGIN : null
  const figures = [
    gapFigure(all, gap, maxGap),
    ...ofDomains.map(({ sums, bounds }) => gapFigure(sums, bounds, maxDomainGap)),
    ...compare('failed requests', 'failed', FAILURE_MARGIN),
    ...compare('slow first tokens', 'slowFirstToken', slowMargin),
    ...compare('slow tokens', 'slowTokens', slowMargin),
  ]
  return {
    harmful: figures.filter(({ passed }) => !passed),
    proven:
      fromUnit(gap.upper, maxGap) < maxGap &&
      ofDomains.every(
        ({ bounds }) =>
          bounds.count < MIN_DOMAIN_CONVERSATIONS || fromUnit(bounds.upper, maxDomainGap) < maxDomainGap,
      ),
    figures,
    scoredRequests: all.requests,
    scoredTokens: all.tokens,
  }
}

/** Returns the figure of the gap of all traffic, without the work of the others. */
export function gapOfAll(all: GapSums, { falseAlarm, maxGap }: TrialLimits): DecisionFigure {
  return gapFigure(all, boundsOf(all, falseAlarm / 4), maxGap)
}

/**
 * Returns the bound of the gaps that a limit is compared with, nats a token. It is twice a wide limit: within the limit alone no gap
 * could exceed it, and a mask would be proven without any score.
 */
export function maxGapFor(limit: number): number {
  return Math.max(MAX_GAP, 2 * limit)
}

/** Returns a gap that is compared with a limit, nats a token, as a number from 0 to 1. */
export function toUnit(gap: number, limit: number): number {
  const most = maxGapFor(limit)
  return (Math.max(-most, Math.min(most, gap)) + most) / (2 * most)
}

function fromUnit(value: number, limit: number): number {
  return (2 * value - 1) * maxGapFor(limit)
}

function gapFigure({ domain, requests, tokens }: GapSums, bounds: Bounds, limit: number): DecisionFigure {
  const lower = fromUnit(bounds.lower, limit)
  return {
    name: 'loss',
    domain,
    holdout: null,
    tokens,
    value: bounds.mean === null ? null : fromUnit(bounds.mean, limit),
    lower,
    upper: fromUnit(bounds.upper, limit),
    limit,
    passed: lower <= limit,
    note: `nats a prompt token, ${requests} requests of ${bounds.count} conversations`,
  }
}

/**
 * Returns the figure of a comparison, unless there is nothing to compare yet.
 *
 * @param alpha the error of each bound
 * @param margin how much more the judged mask may have; null: it is not judged
 */
function comparisonFigure(
  name: string,
  ofJudged: UnitSums,
  ofReference: UnitSums,
  { alpha, margin }: { alpha: number; margin: number | null },
): DecisionFigure[] {
  if (ofJudged.count === 0 || ofReference.count === 0) return []
  const [judged, reference] = [boundsOf(ofJudged, alpha), boundsOf(ofReference, alpha)]
  const limit = margin === null ? null : reference.upper + margin
  const unjudged = limit === null ? '; not judged, because that was at another time' : ''
  return [
    {
      name,
      domain: null,
      holdout: null,
      tokens: null,
      value: judged.mean,
      lower: judged.lower,
      upper: judged.upper,
      limit,
      passed: limit === null || judged.lower <= limit,
      note: `mean share in ${judged.count} conversations, beside ${reference.mean?.toFixed(4)} in ${reference.count}${unjudged}`,
    },
  ]
}

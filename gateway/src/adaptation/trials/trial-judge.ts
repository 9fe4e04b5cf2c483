import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { ConfidenceSequence, type Bounds } from './confidence-sequence.ts'

/** Gaps beyond are counted as this many nats a token, so that they are bounded. A larger limit is never exceeded. */
const MAX_GAP = 0.5
/** Fewest scored requests of a domain that must be proven not worse. */
const MIN_DOMAIN_REQUESTS = 50
/** How many more of its requests may fail. */
const FAILURE_MARGIN = 0.01
/** How many more of its requests may be slow. */
const SLOW_MARGIN = 0.1
/** A time is slow above this multiple of the mean under the other mask. */
const SLOW_RATIO = 2
/** Times below are never slow, milliseconds. */
const MIN_SLOW_MS = { firstToken: 200, token: 50 } as const
/** Requests under the other mask before times are judged. */
const MIN_TIMED_REQUESTS = 20

/** The two sides of a trial: the mask that is judged, and the mask that it is compared with. */
export type TrialSide = 'judged' | 'reference'

/** A request that was scored under both masks. */
export interface ScoredRequest {
  domain: string
  tokens: number
  /** Loss under the judged mask minus loss under the reference, mean nats a prompt token. */
  gap: number
}

/** A request that one of the masks answered, or failed to answer. */
export interface AnsweredRequest {
  side: TrialSide
  failed: boolean
  /** Null where it has none. */
  firstTokenMs: number | null
  /** Mean time between two tokens; null for fewer than two tokens. */
  tokenMs: number | null
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

/**
 * Judges a mask by the requests of a trial, which are added in the order of time.
 *
 * Every figure has a confidence sequence, so one may judge after every request. The probability of a false alarm is split
 * over the figures, and by the union bound their sum bounds that of a wrong roll-back: a quarter for the gap of all
 * traffic, a quarter for those of domains (the k-th domain to appear gets 1/(k(k+1)) of it, so that their number need not
 * be known), and a sixth each for failures, times to first token and inter-token latencies (half for either mask).
 */
export class TrialJudge {
  readonly #limits: TrialLimits
  readonly #slowMargin: number | null
  readonly #gap: ConfidenceSequence
  readonly #domainGaps = new Map<string, { gap: ConfidenceSequence; tokens: number }>()
  readonly #failures: Comparison
  readonly #firstTokens: SlowTimes
  readonly #tokenTimes: SlowTimes
  #tokens = 0

  /**
   * @param judgesTimes false where the masks served at different times: then a host that has become slower makes requests slow,
   * and their figures have no limit
   */
  constructor(limits: TrialLimits, { judgesTimes = true }: { judgesTimes?: boolean } = {}) {
    const { falseAlarm } = limits
    this.#limits = limits
    this.#slowMargin = judgesTimes ? SLOW_MARGIN : null
    this.#gap = new ConfidenceSequence(falseAlarm / 4)
    this.#failures = new Comparison(falseAlarm / 6)
    this.#firstTokens = new SlowTimes(falseAlarm / 6, MIN_SLOW_MS.firstToken)
    this.#tokenTimes = new SlowTimes(falseAlarm / 6, MIN_SLOW_MS.token)
  }

  /** Adds a scored request. */
  addScore({ domain, tokens, gap }: ScoredRequest): void {
    const value = toUnit(gap)
    this.#gap.add(value)
    this.#tokens += tokens
    let own = this.#domainGaps.get(domain)
    if (!own) {
      const place = this.#domainGaps.size + 1
      const alpha = this.#limits.falseAlarm / 4 / (place * (place + 1))
      own = { gap: new ConfidenceSequence(alpha), tokens: 0 }
      this.#domainGaps.set(domain, own)
    }
    own.gap.add(value)
    own.tokens += tokens
  }

  /** Returns the figure of the gap of all traffic, without the work of the others. */
  gapOfAll(): DecisionFigure {
    return gapFigure(null, this.#gap.bounds(), this.#tokens, this.#limits.maxGap)
  }

  /** Adds an answered or failed request. */
  addRequest({ side, failed, firstTokenMs, tokenMs }: AnsweredRequest): void {
    this.#failures.add(side, failed)
    if (firstTokenMs !== null) this.#firstTokens.add(side, firstTokenMs)
    if (tokenMs !== null) this.#tokenTimes.add(side, tokenMs)
  }

  /** Returns the verdict on the requests so far. */
  verdict(): TrialVerdict {
    const { maxGap, maxDomainGap } = this.#limits
    const gap = this.#gap.bounds()
    const domains = [...this.#domainGaps].map(([domain, own]) => ({
      domain,
      ...own,
      bounds: own.gap.bounds(),
    }))
    const figures = [
      gapFigure(null, gap, this.#tokens, maxGap),
      ...domains.map(({ domain, bounds, tokens }) => gapFigure(domain, bounds, tokens, maxDomainGap)),
      ...comparisonFigure('failed requests', this.#failures, FAILURE_MARGIN),
      ...comparisonFigure('slow first tokens', this.#firstTokens.comparison, this.#slowMargin),
      ...comparisonFigure('slow tokens', this.#tokenTimes.comparison, this.#slowMargin),
    ]
    return {
      harmful: figures.filter(({ passed }) => !passed),
      proven:
        fromUnit(gap.upper) < maxGap &&
        domains.every(
          ({ bounds }) => bounds.count < MIN_DOMAIN_REQUESTS || fromUnit(bounds.upper) < maxDomainGap,
        ),
      figures,
      scoredRequests: gap.count,
      scoredTokens: this.#tokens,
    }
  }
}

/** Shares of the requests of both masks to which something happened. */
class Comparison {
  readonly #shares: Record<TrialSide, ConfidenceSequence>

  constructor(alpha: number) {
    this.#shares = {
      judged: new ConfidenceSequence(alpha / 2),
      reference: new ConfidenceSequence(alpha / 2),
    }
  }

  add(side: TrialSide, happened: boolean): void {
    this.#shares[side].add(happened ? 1 : 0)
  }

  bounds(): Record<TrialSide, Bounds> {
    return { judged: this.#shares.judged.bounds(), reference: this.#shares.reference.bounds() }
  }
}

/** Shares of requests that were slow, by the mean of the earlier requests under the reference. */
class SlowTimes {
  readonly comparison: Comparison
  readonly #minMs: number
  #count = 0
  #sumMs = 0

  constructor(alpha: number, minMs: number) {
    this.comparison = new Comparison(alpha)
    this.#minMs = minMs
  }

  add(side: TrialSide, ms: number): void {
    if (this.#count >= MIN_TIMED_REQUESTS) {
      // From earlier requests alone, so that what counts as slow is settled before the time is known.
      const slowMs = Math.max(this.#minMs, (SLOW_RATIO * this.#sumMs) / this.#count)
      this.comparison.add(side, ms > slowMs)
    }
    if (side === 'judged') return
    this.#count += 1
    this.#sumMs += ms
  }
}

function toUnit(gap: number): number {
  return (Math.max(-MAX_GAP, Math.min(MAX_GAP, gap)) + MAX_GAP) / (2 * MAX_GAP)
}

function fromUnit(value: number): number {
  return value * 2 * MAX_GAP - MAX_GAP
}

function gapFigure(domain: string | null, bounds: Bounds, tokens: number, limit: number): DecisionFigure {
  const lower = fromUnit(bounds.lower)
  return {
    name: 'loss',
    domain,
    holdout: null,
    tokens,
    value: bounds.mean === null ? null : fromUnit(bounds.mean),
    lower,
    upper: fromUnit(bounds.upper),
    limit,
    passed: lower <= limit,
    note: `nats a prompt token, ${bounds.count} requests`,
  }
}

/**
 * Returns the figure of a comparison, unless there is nothing to compare yet.
 *
 * @param margin how much more the judged mask may have; null: it is not judged
 */
function comparisonFigure(name: string, comparison: Comparison, margin: number | null): DecisionFigure[] {
  const { judged, reference } = comparison.bounds()
  if (judged.count === 0 || reference.count === 0) return []
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
      note: `share of ${judged.count} requests, beside ${reference.mean?.toFixed(4)} of ${reference.count}${unjudged}`,
    },
  ]
}

import { trafficWeights } from '../holdouts/traffic-weights.ts'
import {
  judgeDomain,
  withoutJudge,
  type AutomaticTrigger,
  type DomainFacts,
  type DueDomain,
  type DueRules,
} from './due-domain.ts'
import { scoredGap, type HeldAlert } from './drift-signals.ts'
import { nextStart, type StartInput, type StartTime } from './start-times.ts'

/** The facts from which a plan is made. */
export interface PlanInput extends Omit<DueRules, 'nowMs' | 'policy'>, StartInput {
  domains: readonly DomainFacts[]
  /** Number of updates of the model that are recorded, of which `updates` are the latest. */
  updateCount: number
}

/** One domain of a plan. */
export interface PlannedDomain extends DueDomain {
  domain: string
  /** Scored loss above the dense model, nats a token; undefined where too little was scored. */
  gap: number | undefined
  /** Drift alerts that hold. */
  alerts: readonly HeldAlert[]
  /** Share of the settled tokens, 0 to 1. */
  trafficShare: number
  /** Expected gain: gap × traffic share × new segments. */
  gain: number
  failures: number
  retryAtMs: number | undefined
}

/** The domains that are due, and those that the next update takes. */
export interface UpdatePlan {
  start: StartTime
  /** Due domains first, then by gain. */
  domains: PlannedDomain[]
  /** Those that the next update takes, whether it may start now or not. */
  next: PlannedDomain[]
}

/** The gap of a domain that was not scored enough, where no other one was: that of a mask which is worth an update. */
const UNKNOWN_GAP = 1
/** A domain whose updates failed more often is updated alone, so that it cannot fail those of others. */
const MAX_MERGED_FAILURES = 1
/** Where an update takes one domain only, each fourth one is that which waits longest. */
const LONGEST_WAIT_TURN = 4

/**
 * Plans the next update of a model. A pure function.
 *
 * The due domains are merged into one update, most expected gain first. The last place belongs to the domain that has waited
 * longest since an update of its own, so that none waits for ever behind those with more traffic.
 */
export function planUpdate(input: PlanInput): UpdatePlan {
  const { domains: facts, policy } = input
  const own = facts.map((of) => judgeDomain(of, input))
  const hasJudge = own.some(({ due, missingAlone }) => due !== undefined && missingAlone === 0)
  const judged = facts.map((of, index) => {
    const alone = own[index] as DueDomain
    const due = alone.due === undefined || hasJudge ? alone : withoutJudge(alone)
    return { facts: of, due, gap: scoredGap(of.scored) }
  })
  const dueNames = judged.filter(({ due }) => due.due !== undefined).map(({ facts: { domain } }) => domain)
  const shares = sharesOf(facts, dueNames)
  const unknownGap = Math.max(...judged.map(({ gap }) => gap ?? 0), 0) || UNKNOWN_GAP
  const domains = judged
    .map(({ facts: { domain, history, alerts }, due, gap }): PlannedDomain => {
      const trafficShare = shares.get(domain)?.actual ?? 0
      const expected = Math.max(0, gap ?? unknownGap) * (shares.get(domain)?.expected ?? 0) * due.newSegments
      const { failures = 0, retryAtMs } = history ?? {}
      return { ...due, domain, gap, alerts, trafficShare, gain: expected, failures, retryAtMs }
    })
    .toSorted(
      (a, b) =>
        Number(b.due !== undefined) - Number(a.due !== undefined) ||
        b.gain - a.gain ||
        a.domain.localeCompare(b.domain),
    )
  const waiting = new Map(
    facts.map(({ domain, history, createdAtMs }) => [domain, history?.lastStartMs ?? createdAtMs]),
  )
  const due = domains.filter((each) => each.due !== undefined)
  return {
    start: nextStart(input),
    domains,
    next: chooseDomains(due, policy.max_domains, waiting, input.updateCount),
  }
}

/** The settled share of each domain, and the one to expect: a due domain without traffic counts like an average one. */
function sharesOf(
  facts: readonly DomainFacts[],
  due: readonly string[],
): Map<string, { actual: number; expected: number }> {
  const tokens = new Map(facts.map(({ domain, trafficTokens }) => [domain, trafficTokens]))
  const total = [...tokens.values()].reduce((sum, count) => sum + count, 0)
  const weights = trafficWeights([...tokens.keys()], due, tokens)
  const weightSum = [...weights.values()].reduce((sum, weight) => sum + weight, 0)
  return new Map(
    [...tokens].map(([domain, count]) => [
      domain,
      {
        actual: total === 0 ? 0 : count / total,
        expected: weightSum === 0 ? 0 : (weights.get(domain) ?? 0) / weightSum,
      },
    ]),
  )
}

/**
 * @param due most gain first
 * @param waiting when the last update of each domain began
 * @param updates number of updates so far
 */
function chooseDomains(
  due: readonly PlannedDomain[],
  places: number,
  waiting: ReadonlyMap<string, number>,
  updates: number,
): PlannedDomain[] {
  // One domain of an update must have enough held-out text to judge the mask by.
  const [first] = byTurn(
    due.filter((each) => each.missingAlone === 0),
    places,
    waiting,
    updates,
  )
  if (!first) return []
  if (first.failures > MAX_MERGED_FAILURES) return [first]
  const others = due.filter((each) => each !== first && each.failures <= MAX_MERGED_FAILURES)
  if (others.length < places) return [first, ...others]
  const gaining = others.slice(0, places - 1)
  const left = others.slice(places - 1)
  const longest = longestWaiting([...gaining.slice(-1), ...left], waiting)
  return [first, ...gaining.slice(0, -1), ...(places > 1 && longest ? [longest] : [])]
}

/** Returns the domains with the one first that leads the update. */
function byTurn(
  due: readonly PlannedDomain[],
  places: number,
  waiting: ReadonlyMap<string, number>,
  updates: number,
): PlannedDomain[] {
  const longest = longestWaiting(due, waiting)
  if (places > 1 || longest === undefined || updates % LONGEST_WAIT_TURN !== LONGEST_WAIT_TURN - 1)
    return [...due]
  return [longest, ...due.filter((each) => each !== longest)]
}

function longestWaiting(
  domains: readonly PlannedDomain[],
  waiting: ReadonlyMap<string, number>,
): PlannedDomain | undefined {
  return domains.toSorted((a, b) => (waiting.get(a.domain) ?? 0) - (waiting.get(b.domain) ?? 0))[0]
}

/** Returns the trigger of an update, which is that of its first domain, and the reason in a sentence. */
export function describeStart(domains: readonly PlannedDomain[]): {
  trigger: AutomaticTrigger
  reason: string
} {
  const trigger = domains[0]?.due ?? 'volume'
  return { trigger, reason: `${domains.map(({ domain, reason }) => `'${domain}': ${reason}`).join('. ')}.` }
}

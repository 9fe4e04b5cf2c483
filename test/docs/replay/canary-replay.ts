/**
 * Replays the verdicts of canary and watch on simulated traffic: how often a mask that does no harm is rolled back, and how
 * many requests it takes to roll back one that does.
 */
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { judgeSums, trialLimits } from '../../../gateway/src/adaptation/trials/trial-judge.ts'
import { createRandom } from '../../support/harness/random.ts'
import { TrialTally, type AnsweredRequest } from '../../support/trials/trial-tally.ts'

const POLICY = PRESETS.production
const LIMITS = trialLimits(POLICY, 1)
/** A judge looks every ten seconds. */
const LOOKS_A_DAY = 24 * 360
/** The verdict uses the first scores of a trial; see `judge-trial.ts`. */
const MAX_SCORES = 5_000

/** The simulated traffic. */
export const TRAFFIC = {
  requestsADay: 20_000,
  domains: 4,
  /** How many conversations go on at once. The number of requests of each is geometric. */
  conversations: 200,
  /** The part of the variance that a conversation's requests have in common: of gaps, and of the logarithms of times. */
  common: 0.7,
  /** The deviation of a request's gap from its mean, nats a token: nine in ten normal, one in ten four times as wide. */
  gapDeviation: 0.1,
  /** A tenth of the conversations has nine tenths of the failures. */
  failures: 0.005,
  /** Log-normal, median and deviation of the logarithm. */
  firstTokenMs: { median: 300, spread: 0.6 },
  tokenMs: { median: 30, spread: 0.3 },
} as const

/** A mask without harm whose roll-backs are counted. */
export interface HarmlessCase {
  name: string
  trial: 'canary' | 'watch'
  /** Its loss above that of the other mask, as a ratio of perplexities in every domain. */
  ratio: number
  days: number
  /** How many times as long requests take under the mask, because its host is busier; 1 if left out. */
  slowdown?: number
  /** Mean requests of a conversation. */
  requestsOfConversation: number
  /** What a verdict counts; the conversation if it is left out. */
  unit?: 'request'
}

/** The result of a {@link HarmlessCase}. */
export interface HarmlessResult extends HarmlessCase {
  rolledBack: number
}

/** A mask that is worse in one of the domains. */
export interface HarmfulCase {
  /** Ratio of perplexities in that domain. */
  ratio: number
  /** Mean requests of a conversation. */
  requestsOfConversation: number
  runs: number
}

/** The result of a {@link HarmfulCase}: scored requests of all domains until the roll-back. */
export interface HarmfulResult extends HarmfulCase {
  /** Results of the first ten runs; null where the scores that a verdict uses did not prove harm. */
  first: (number | null)[]
  caught: number
  median: number | null
  nineInTen: number | null
}

const DAYS = 400
const asBadAsAllowed = {
  name: 'as bad as is allowed, canary',
  trial: 'canary',
  ratio: 1.01,
  days: DAYS,
} as const

export const HARMLESS: readonly HarmlessCase[] = [
  { name: 'equal masks, canary', trial: 'canary', ratio: 1, days: DAYS, requestsOfConversation: 10 },
  { name: 'equal masks, watch', trial: 'watch', ratio: 1, days: DAYS, requestsOfConversation: 10 },
  {
    name: 'equal masks, watch, requests three times as slow',
    trial: 'watch',
    ratio: 1,
    days: DAYS,
    requestsOfConversation: 10,
    slowdown: 3,
  },
  ...[1, 10].map((requestsOfConversation) => ({ ...asBadAsAllowed, requestsOfConversation })),
]

/** What it would be if a verdict counted requests as if they were independent. */
export const BY_REQUEST: HarmlessCase = { ...asBadAsAllowed, requestsOfConversation: 10, unit: 'request' }

export const HARMFUL: readonly HarmfulCase[] = [1, 10].flatMap((requestsOfConversation) =>
  [1.05, 1.1, 1.2, 1.5].map((ratio) => ({ ratio, requestsOfConversation, runs: 500 })),
)

/** Counts the days with a roll-back. Each day has a seed of its own. */
export function replayHarmless(harmless: HarmlessCase): HarmlessResult {
  let rolledBack = 0
  for (let day = 0; day < harmless.days; day += 1) rolledBack += Number(replayDay(harmless, day))
  return { ...harmless, rolledBack }
}

/** Returns whether the mask is rolled back within a day of traffic, all of it judged. */
export function replayDay(
  { trial, ratio, requestsOfConversation, slowdown = 1, unit }: HarmlessCase,
  day: number,
): boolean {
  const random = createRandom(day * 7919 + (trial === 'canary' ? 1 : 2))
  const traffic = trafficOf(random, requestsOfConversation)
  const tally = new TrialTally()
  const unitOf = (conversation: number, request: number) => (unit === 'request' ? request : conversation)
  // A watch compares with the requests that the mask before answered last, and with masks that served at different times.
  if (trial === 'watch')
    for (let index = 0; index < 2_000; index += 1) {
      const request = traffic.next()
      tally.addRequest(request.answered('reference', unitOf(request.conversation, -1 - index)))
    }
  const before = traffic.began()
  const { requestsADay } = TRAFFIC
  const gap = Math.log(ratio)
  let look = 0
  for (let index = 0; index < requestsADay; index += 1) {
    const request = traffic.next()
    const conversation = unitOf(request.conversation, before + index)
    const isJudged = trial === 'watch' || request.lot < POLICY.canary.share
    tally.addRequest(
      request.answered(isJudged ? 'judged' : 'reference', conversation, isJudged ? slowdown : 1),
    )
    // The active mask scores: that of the watch, the other one of the canary.
    if ((trial === 'watch' || !isJudged) && random() < POLICY.canary.shadow_share)
      tally.addScore({ conversation, domain: request.domain, tokens: 100, gap: gap + request.noise })
    const now = Math.floor(((index + 1) / requestsADay) * LOOKS_A_DAY)
    if (now === look) continue
    look = now
    if (judgeSums(tally.sums(), LIMITS, { judgesTimes: trial !== 'watch' }).harmful.length > 0) return true
  }
  return false
}

/** Counts scored requests until the roll-back. */
export function replayHarmful(harmful: HarmfulCase): HarmfulResult {
  const counts = Array.from({ length: harmful.runs }, (_, run) => requestsUntilHarm(harmful, run))
  const needed = counts.filter((count) => count !== null).sort((a, b) => a - b)
  const at = (share: number) => needed[Math.ceil(share * harmful.runs) - 1] ?? null
  return {
    ...harmful,
    first: counts.slice(0, 10),
    caught: needed.length,
    median: at(0.5),
    nineInTen: at(0.9),
  }
}

/** Returns the scored requests until harm is proven, or null if the scores that a verdict uses do not prove it. */
export function requestsUntilHarm(
  { ratio, requestsOfConversation }: HarmfulCase,
  run: number,
): number | null {
  const traffic = trafficOf(createRandom(run * 104_729 + 3), requestsOfConversation)
  const tally = new TrialTally()
  for (let count = 1; count <= MAX_SCORES; count += 1) {
    const { conversation, domain, noise } = traffic.next()
    const gap = (domain === 'domain 0' ? Math.log(ratio) : 0) + noise
    tally.addScore({ conversation, domain, tokens: 100, gap })
    if (judgeSums(tally.sums(), LIMITS).harmful.length > 0) return count
  }
  return null
}

function trafficOf(random: () => number, requestsOfConversation: number) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  const { common, conversations, failures, firstTokenMs, tokenMs } = TRAFFIC
  // 0.9 + 0.1 · 4² = 2.5: the variance of the mixture, in squares of the narrow deviation.
  const heavyTailed = () => (normal() * (random() < 0.1 ? 4 : 1)) / Math.sqrt(2.5)
  const own = Math.sqrt(1 - common)
  let began = 0
  const begin = () => {
    began += 1
    return {
      conversation: began,
      domain: `domain ${Math.floor(random() * TRAFFIC.domains)}`,
      lot: random(),
      gap: heavyTailed() * Math.sqrt(common),
      firstToken: normal() * Math.sqrt(common),
      token: normal() * Math.sqrt(common),
      failures: failures * (random() < 0.1 ? 9 : 1 / 9),
    }
  }
  const running = Array.from({ length: conversations }, begin)
  const logNormal = ({ median, spread }: { median: number; spread: number }, part: number) =>
    median * Math.exp(spread * (part + own * normal()))
  return {
    began: () => began,
    next() {
      const place = Math.floor(random() * conversations)
      if (random() < 1 / requestsOfConversation) running[place] = begin()
      const { conversation, domain, lot, ...parts } = running[place] ?? begin()
      return {
        conversation,
        domain,
        lot,
        noise: TRAFFIC.gapDeviation * (parts.gap + own * heavyTailed()),
        answered: (
          side: AnsweredRequest['side'],
          unit: AnsweredRequest['conversation'],
          slowdown = 1,
        ): AnsweredRequest => ({
          side,
          conversation: unit,
          failed: random() < parts.failures,
          firstTokenMs: slowdown * logNormal(firstTokenMs, parts.firstToken),
          tokenMs: slowdown * logNormal(tokenMs, parts.token),
        }),
      }
    },
  }
}

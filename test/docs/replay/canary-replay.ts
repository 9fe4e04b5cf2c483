/**
 * Replays the verdicts of canary and watch on simulated traffic: how often a mask that does no harm is rolled back, and how
 * many requests it takes to roll back one that does.
 */
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import {
  TrialJudge,
  trialLimits,
  type AnsweredRequest,
} from '../../../gateway/src/adaptation/trials/trial-judge.ts'
import { createRandom } from '../../support/harness/random.ts'

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
  /** The deviation of a request's gap from its mean, nats a token: nine in ten normal, one in ten four times as wide. */
  gapDeviation: 0.1,
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
}

/** The result of a {@link HarmlessCase}. */
export interface HarmlessResult extends HarmlessCase {
  rolledBack: number
}

/** A mask that is worse in one of the domains. */
export interface HarmfulCase {
  /** Ratio of perplexities in that domain. */
  ratio: number
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

export const HARMLESS: readonly HarmlessCase[] = [
  { name: 'equal masks, canary', trial: 'canary', ratio: 1, days: 1_000 },
  { name: 'equal masks, watch', trial: 'watch', ratio: 1, days: 1_000 },
  {
    name: 'equal masks, watch, requests three times as slow',
    trial: 'watch',
    ratio: 1,
    days: 1_000,
    slowdown: 3,
  },
  { name: 'as bad as is allowed, canary', trial: 'canary', ratio: 1.01, days: 1_000 },
]

export const HARMFUL: readonly HarmfulCase[] = [1.05, 1.1, 1.2, 1.5].map((ratio) => ({ ratio, runs: 500 }))

/** Counts the days with a roll-back. Each day has a seed of its own. */
export function replayHarmless(harmless: HarmlessCase): HarmlessResult {
  let rolledBack = 0
  for (let day = 0; day < harmless.days; day += 1) rolledBack += Number(replayDay(harmless, day))
  return { ...harmless, rolledBack }
}

/** Returns whether the mask is rolled back within a day of traffic, all of it judged. */
export function replayDay({ trial, ratio, slowdown = 1 }: HarmlessCase, day: number): boolean {
  const random = createRandom(day * 7919 + (trial === 'canary' ? 1 : 2))
  const traffic = trafficOf(random)
  // A watch compares masks that served at different times.
  const judge = new TrialJudge(LIMITS, { judgesTimes: trial !== 'watch' })
  const gap = Math.log(ratio)
  // A watch compares with the requests that the mask before answered last.
  if (trial === 'watch')
    for (let index = 0; index < 2_000; index += 1) judge.addRequest(traffic.request('reference'))
  const { requestsADay, domains } = TRAFFIC
  let look = 0
  for (let index = 0; index < requestsADay; index += 1) {
    const isJudged = trial === 'watch' || random() < POLICY.canary.share
    judge.addRequest(isJudged ? traffic.request('judged', slowdown) : traffic.request('reference'))
    // The active mask scores: that of the watch, the other one of the canary.
    if ((trial === 'watch' || !isJudged) && random() < POLICY.canary.shadow_share) {
      const domain = `domain ${Math.floor(random() * domains)}`
      judge.addScore({ domain, tokens: 100, gap: gap + traffic.noise() })
    }
    const now = Math.floor(((index + 1) / requestsADay) * LOOKS_A_DAY)
    if (now === look) continue
    look = now
    if (judge.verdict().harmful.length > 0) return true
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
export function requestsUntilHarm({ ratio }: HarmfulCase, run: number): number | null {
  const random = createRandom(run * 104_729 + 3)
  const traffic = trafficOf(random)
  const judge = new TrialJudge(LIMITS)
  for (let count = 1; count <= MAX_SCORES; count += 1) {
    const place = Math.floor(random() * TRAFFIC.domains)
    const gap = (place === 0 ? Math.log(ratio) : 0) + traffic.noise()
    judge.addScore({ domain: `domain ${place}`, tokens: 100, gap })
    if (judge.verdict().harmful.length > 0) return count
  }
  return null
}

function trafficOf(random: () => number) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
  // 0.9 + 0.1 · 4² = 2.5: the variance of the mixture, in squares of the narrow deviation.
  const narrow = TRAFFIC.gapDeviation / Math.sqrt(2.5)
  const logNormal = ({ median, spread }: { median: number; spread: number }) =>
    median * Math.exp(spread * normal())
  return {
    noise: () => normal() * narrow * (random() < 0.1 ? 4 : 1),
    request: (side: AnsweredRequest['side'], slowdown = 1): AnsweredRequest => ({
      side,
      failed: random() < TRAFFIC.failures,
      firstTokenMs: slowdown * logNormal(TRAFFIC.firstTokenMs),
      tokenMs: slowdown * logNormal(TRAFFIC.tokenMs),
    }),
  }
}

import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import {
  TrialJudge,
  trialLimits,
  type AnsweredRequest,
  type TrialVerdict,
} from '../../../../gateway/src/adaptation/trials/trial-judge.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'

const LIMITS = trialLimits(PRESETS.production, 1)
const TOKENS = 64

interface Traffic {
  requests: number
  /** The true gap of each domain, nats a token. */
  gaps: Record<string, number>
  deviation?: number
  seed?: number
}

/** Judges scored requests that spread evenly over domains. */
function judgeScores({ requests, gaps, deviation = 0.05, seed = 1 }: Traffic): TrialVerdict {
  const judge = new TrialJudge(LIMITS)
  const noise = normals(createRandom(seed), requests, 0, deviation)
  const domains = Object.entries(gaps)
  for (const [index, value] of noise.entries()) {
    const [domain, gap] = domains[index % domains.length] ?? ['', 0]
    judge.addScore({ domain, tokens: TOKENS, gap: gap + value })
  }
  return judge.verdict()
}

const request = (changes: Partial<AnsweredRequest>): AnsweredRequest => ({
  side: 'judged',
  failed: false,
  firstTokenMs: 100,
  tokenMs: 20,
  ...changes,
})

/** Judges requests of both masks in turn. */
function judgeRequests(
  count: number,
  of: (index: number) => { judged: Partial<AnsweredRequest>; reference?: Partial<AnsweredRequest> },
): TrialVerdict {
  const judge = new TrialJudge(LIMITS)
  for (let index = 0; index < count; index += 1) {
    const { judged, reference = {} } = of(index)
    judge.addRequest(request({ ...reference, side: 'reference' }))
    judge.addRequest(request(judged))
  }
  return judge.verdict()
}

test('limits are those of the policy, and beside dense weights the ratio to dense', () => {
  const { gate, canary } = PRESETS.production
  expect(LIMITS).toEqual({ maxDomainGap: Math.log(1.05), maxGap: Math.log(1.01), falseAlarm: 0.01 })
  expect(trialLimits({ gate, canary }, 0)).toMatchObject({
    maxDomainGap: Math.log(1.5),
    maxGap: Math.log(1.5),
  })
})

describe('the loss', () => {
  test('of one bad domain among good ones is harm, and the figure names the domain, the bound and the limit', () => {
    const { harmful, proven, figures, scoredRequests, scoredTokens } = judgeScores({
      requests: 2_000,
      gaps: { legal: 0.2, code: 0, mail: 0, news: 0 },
    })
    const legal = harmful.find(({ domain }) => domain === 'legal')
    expect(legal).toMatchObject({ name: 'loss', limit: Math.log(1.05), passed: false, tokens: 500 * TOKENS })
    expect(legal?.lower).toBeGreaterThan(Math.log(1.05))
    expect(legal?.value).toBeCloseTo(0.2, 1)
    expect(proven).toBe(false)
    expect(figures[0]).toMatchObject({ name: 'loss', domain: null, limit: Math.log(1.01) })
    expect(figures.filter(({ domain }) => domain === 'code')).toMatchObject([{ passed: true }])
    expect([scoredRequests, scoredTokens]).toEqual([2_000, 2_000 * TOKENS])
  })

  test('of all traffic is harm above its own, lower limit', () => {
    const { harmful } = judgeScores({ requests: 4_000, gaps: { code: 0.03 }, deviation: 0.03 })
    expect(harmful.map(({ domain, limit }) => [domain, limit])).toEqual([[null, Math.log(1.01)]])
  })

  test('of an equal mask is proven not worse after some thousand requests, and not after a hundred', () => {
    const gaps = { code: 0, mail: 0 }
    const early = judgeScores({ requests: 100, gaps })
    expect([early.harmful, early.proven]).toEqual([[], false])
    const late = judgeScores({ requests: 4_000, gaps })
    expect([late.harmful, late.proven]).toEqual([[], true])
  })

  test('of a domain with fewer than 50 requests need not be proven, and one with more must be', () => {
    const withRare = (rare: number) => {
      const judge = new TrialJudge(LIMITS)
      for (let index = 0; index < 6_000; index += 1) judge.addScore({ domain: 'code', tokens: 9, gap: 0 })
      for (let index = 0; index < rare; index += 1) judge.addScore({ domain: 'rare', tokens: 9, gap: 0 })
      return judge.verdict().proven
    }
    expect([withRare(49), withRare(50), withRare(2_000)]).toEqual([true, false, true])
  })

  test('of a single request counts at most half a nat, however large it is', () => {
    const judge = new TrialJudge(LIMITS)
    judge.addScore({ domain: 'code', tokens: 5, gap: 1e9 })
    judge.addScore({ domain: 'code', tokens: 5, gap: -1e9 })
    judge.addScore({ domain: 'code', tokens: 5, gap: 7 })
    expect(judge.verdict().figures[0]?.value).toBeCloseTo(0.5 / 3, 12)
  })
})

describe('failures', () => {
  test('are harm if the mask fails more requests than the other by more than a hundredth', () => {
    const { harmful } = judgeRequests(600, (index) => ({ judged: { failed: index % 5 === 0 } }))
    expect(harmful).toMatchObject([{ name: 'failed requests', value: 0.2, passed: false }])
  })

  test('of both masks alike are none', () => {
    const failed = (index: number) => ({ failed: index % 5 === 0 })
    const { harmful } = judgeRequests(1_500, (index) => ({ judged: failed(index), reference: failed(index) }))
    expect(harmful).toEqual([])
  })

  test('are not compared before both masks have answered requests', () => {
    const judge = new TrialJudge(LIMITS)
    for (let index = 0; index < 500; index += 1) judge.addRequest(request({ failed: true }))
    expect(judge.verdict().figures.map(({ name }) => name)).toEqual(['loss'])
  })
})

describe('times', () => {
  test('to the first token are harm if far more requests take twice the mean of the other mask', () => {
    const { harmful } = judgeRequests(600, (index) => ({
      judged: { firstTokenMs: index % 2 === 0 ? 900 : 100 },
    }))
    expect(harmful).toMatchObject([{ name: 'slow first tokens', passed: false }])
    expect(harmful[0]?.lower).toBeGreaterThan(0.2)
  })

  test('between tokens are judged likewise', () => {
    const { harmful } = judgeRequests(600, () => ({ judged: { tokenMs: 120 } }))
    expect(harmful).toMatchObject([{ name: 'slow tokens', value: 1 }])
  })

  test('of a mask that served at another time are shown and not judged, because its host may have become slower', () => {
    const judge = new TrialJudge(LIMITS, { judgesTimes: false })
    for (let index = 0; index < 600; index += 1) judge.addRequest(request({ side: 'reference' }))
    for (let index = 0; index < 600; index += 1)
      judge.addRequest(request({ firstTokenMs: 900, tokenMs: 120 }))
    const { harmful, figures } = judge.verdict()
    expect(harmful).toEqual([])
    const slow = figures.filter(({ name }) => name.startsWith('slow'))
    expect(slow).toMatchObject([
      { name: 'slow first tokens', value: 1, limit: null },
      { name: 'slow tokens', value: 1, limit: null },
    ])
  })

  test.each([
    [
      'that are twice as long but short are none',
      { firstTokenMs: 190, tokenMs: 45 },
      { firstTokenMs: 80, tokenMs: 20 },
    ],
    [
      'that are longer by less than the ratio are none',
      { firstTokenMs: 900, tokenMs: 90 },
      { firstTokenMs: 600, tokenMs: 60 },
    ],
    ['that are missing are none', { firstTokenMs: null, tokenMs: null }, {}],
  ])('%s', (_, judged, reference) => {
    expect(judgeRequests(1_000, () => ({ judged, reference })).harmful).toEqual([])
  })
})

test('equal masks are rolled back in at most the promised share of trials, with every figure judged after every request', () => {
  const runs = 200
  let alarms = 0
  for (let run = 0; run < runs; run += 1) {
    const random = createRandom(run)
    const noise = normals(random, 800, 0, 0.15)
    const judge = new TrialJudge({ ...LIMITS, maxGap: 0, maxDomainGap: 0, falseAlarm: 0.2 })
    let isAlarm = false
    for (const [index, gap] of noise.entries()) {
      judge.addScore({ domain: `domain-${index % 4}`, tokens: 9, gap })
      const side = random() < 0.1 ? 'judged' : 'reference'
      judge.addRequest(
        request({ side, failed: random() < 0.05, firstTokenMs: 300 * -Math.log(1 - random()) }),
      )
      isAlarm ||= judge.verdict().harmful.length > 0
    }
    alarms += Number(isAlarm)
  }
  expect(alarms).toBeLessThanOrEqual(0.2 * runs)
})

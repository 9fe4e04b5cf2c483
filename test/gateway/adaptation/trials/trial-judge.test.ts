import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import {
  judgeSums,
  trialLimits,
  type TrialVerdict,
} from '../../../../gateway/src/adaptation/trials/trial-judge.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'
import { TrialTally, type AnsweredRequest } from '../../../support/trials/trial-tally.ts'

const LIMITS = trialLimits(PRESETS.production, 1)
const TOKENS = 64

interface Traffic {
  requests: number
  /** The true gap of each domain, nats a token. */
  gaps: Record<string, number>
  deviation?: number
  seed?: number
}

/** Judges scored requests that spread evenly over domains, each a conversation of its own. */
function judgeScores({ requests, gaps, deviation = 0.05, seed = 1 }: Traffic): TrialVerdict {
  const tally = new TrialTally()
  const noise = normals(createRandom(seed), requests, 0, deviation)
  const domains = Object.entries(gaps)
  for (const [index, value] of noise.entries()) {
    const [domain, gap] = domains[index % domains.length] ?? ['', 0]
    tally.addScore({ conversation: index, domain, tokens: TOKENS, gap: gap + value })
  }
  return judgeSums(tally.sums(), LIMITS)
}

let asked = 0
const request = (changes: Partial<AnsweredRequest>): AnsweredRequest => ({
  side: 'judged',
  conversation: (asked += 1),
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
  const tally = new TrialTally()
  for (let index = 0; index < count; index += 1) {
    const { judged, reference = {} } = of(index)
    tally.addRequest(request({ ...reference, side: 'reference' }))
    tally.addRequest(request(judged))
  }
  return judgeSums(tally.sums(), LIMITS)
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

  test('of a domain with fewer than 50 conversations need not be proven, and one with more must be', () => {
    const withRare = (rare: number) => {
      const tally = new TrialTally()
      const score = (conversation: number, domain: string) =>
        tally.addScore({ conversation, domain, tokens: 9, gap: 0 })
      for (let index = 0; index < 6_000; index += 1) score(index, 'code')
      for (let index = 0; index < rare; index += 1) score(-1 - index, 'rare')
      return judgeSums(tally.sums(), LIMITS).proven
    }
    expect([withRare(49), withRare(50), withRare(2_000)]).toEqual([true, false, true])
  })

  test('of a single request counts at most half a nat, however large it is', () => {
    const tally = new TrialTally()
    for (const [conversation, gap] of [1e9, -1e9, 7].entries())
      tally.addScore({ conversation, domain: 'code', tokens: 5, gap })
    expect(judgeSums(tally.sums(), LIMITS).figures[0]?.value).toBeCloseTo(0.5 / 3, 12)
  })

  test('of a conversation counts once, however many requests it has', () => {
    const verdictOf = (conversations: number) => {
      const tally = new TrialTally()
      for (let index = 0; index < 5_000; index += 1)
        tally.addScore({ conversation: index % conversations, domain: 'code', tokens: 9, gap: 0.2 })
      return judgeSums(tally.sums(), LIMITS)
    }
    const [few, many] = [verdictOf(5), verdictOf(5_000)]
    expect([few.harmful, few.proven]).toEqual([[], false])
    expect(few.figures[0]).toMatchObject({
      value: expect.closeTo(0.2, 9) as number,
      note: 'nats a prompt token, 5000 requests of 5 conversations',
    })
    expect(many.harmful).toHaveLength(2)
  })
})

describe('a wide limit', () => {
  const wide = { ...LIMITS, maxGap: Math.log(3), maxDomainGap: Math.log(10) }
  const judge = (count: number, gap: number) => {
    const tally = new TrialTally(wide)
    for (let index = 0; index < count; index += 1)
      tally.addScore({ conversation: index, domain: 'code', tokens: 9, gap })
    return judgeSums(tally.sums(), wide)
  }

  test('is not kept without a score, nor by a few', () => {
    for (const count of [0, 1, 5]) expect(judge(count, 0)).toMatchObject({ harmful: [], proven: false })
  })

  test('is kept by a mask that is proven to be within it, and exceeded by one that ruins the text', () => {
    expect(judge(400, 0.5)).toMatchObject({ harmful: [], proven: true })
    const ruined = judge(400, 7)
    expect(ruined.proven).toBe(false)
    expect(ruined.harmful.map(({ domain }) => domain)).toEqual([null, 'code'])
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
    const tally = new TrialTally()
    for (let index = 0; index < 500; index += 1) tally.addRequest(request({ failed: true }))
    expect(judgeSums(tally.sums(), LIMITS).figures.map(({ name }) => name)).toEqual(['loss'])
  })

  test('of one client that repeats a failing request count once', () => {
    const { harmful } = judgeRequests(600, (index) => ({
      judged: index % 5 === 0 ? { failed: true, conversation: 'a loop' } : {},
    }))
    expect(harmful).toEqual([])
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
    const tally = new TrialTally()
    for (let index = 0; index < 600; index += 1) tally.addRequest(request({ side: 'reference' }))
    for (let index = 0; index < 600; index += 1)
      tally.addRequest(request({ firstTokenMs: 900, tokenMs: 120 }))
    const { harmful, figures } = judgeSums(tally.sums(), LIMITS, { judgesTimes: false })
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
    const tally = new TrialTally()
    const limits = { ...LIMITS, maxGap: 0, maxDomainGap: 0, falseAlarm: 0.2 }
    let isAlarm = false
    for (const [index, gap] of noise.entries()) {
      tally.addScore({ conversation: index, domain: `domain-${index % 4}`, tokens: 9, gap })
      const side = random() < 0.1 ? 'judged' : 'reference'
      tally.addRequest(
        request({ side, failed: random() < 0.05, firstTokenMs: 300 * -Math.log(1 - random()) }),
      )
      isAlarm ||= judgeSums(tally.sums(), limits).harmful.length > 0
    }
    alarms += Number(isAlarm)
  }
  expect(alarms).toBeLessThanOrEqual(0.2 * runs)
})

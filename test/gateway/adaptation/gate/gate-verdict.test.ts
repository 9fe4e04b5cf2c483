import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { gateVerdict, isForceableDecision } from '../../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { SOUND_GENERATION } from '../../support/doubles/simulated-node.ts'
import { gateInput, type HoldoutSketch } from './gate-holdouts.ts'

/**
 * Half of the width of a bound on a full holdout: window differences are ±0.02 around their mean, so s = 0.02 · √(16/15),
 * and constraints of a first candidate use 97.41 % for 95 %: t(0.97408, 15) · s / √16 = 2.11233 · 0.020656 / 4.
 */
const MARGIN = 0.010908
/** That of a second candidate, at 99.13 %: t(0.99133, 15) = 2.67371. */
const NEXT_MARGIN = 0.013807

const verdictOf = (sketches: readonly HoldoutSketch[], changes: Parameters<typeof gateInput>[1] = {}) =>
  gateVerdict(gateInput(sketches, changes))

describe('a refresh', () => {
  test('passes when nothing changes, with each bound shown against its limit', () => {
    const { verdict, reason, figures } = verdictOf([
      { domain: 'legal', candidate: 1.3, parent: 1.3, best: { version: 4, ratio: 1.25 } },
      // 16 windows alone prove 1.0103 × at best, where 1.01 × is allowed.
      { domain: 'code', candidate: 1.3, parent: 1.3 },
    ])
    expect(verdict).toBe('passed')
    expect(reason).toContain('Its perplexity over all domains is 1.000 ×')
    expect(figures.find(({ name }) => name === 'perplexity / parent')).toMatchObject({
      domain: 'legal',
      tokens: 8176,
      value: expect.closeTo(1, 9) as number,
      upper: expect.closeTo(Math.exp(MARGIN), 5) as number,
      lower: expect.closeTo(Math.exp(-MARGIN), 5) as number,
      limit: 1.05,
      passed: true,
    })
    expect(figures.find(({ name }) => name === 'perplexity / best')).toMatchObject({
      value: expect.closeTo(1.04, 9) as number,
      upper: expect.closeTo(1.04 * Math.exp(MARGIN), 5) as number,
      limit: 1.1,
      note: 'm4',
    })
  })

  test.each([
    // 1.05 / e^MARGIN = 1.0386: the bound decides, not the estimate.
    [1.038, 'passed'],
    [1.042, 'failed'],
  ])('of a domain that costs another one %d × its perplexity is %s by the constraint', (ratio, verdict) => {
    const result = verdictOf([
      { domain: 'legal', candidate: 1.3 * ratio, parent: 1.3, weight: 1 },
      { domain: 'code', candidate: 1.1, parent: 1.3, weight: 5 },
    ])
    expect(result.verdict).toBe(verdict)
  })

  test('that fails names the worst figure, and the domain that needs more weight', () => {
    const { reason, violations } = verdictOf([
      { domain: 'legal', candidate: 1.3 * 1.042, parent: 1.3, weight: 1 },
      { domain: 'code', candidate: 1.1, parent: 1.3, weight: 5 },
    ])
    expect(reason).toMatch(/on 'legal' is 1\.042 × .* bound of 1\.053 ×; at most 1\.050 × is allowed/)
    expect(reason).not.toContain('more of its figures')
    expect(violations).toEqual([
      { domain: 'legal', excess: expect.closeTo(Math.log(1.042 / 1.05) + NEXT_MARGIN, 5) as number },
    ])
  })

  test('that fails in several figures counts those that its reason does not name', () => {
    const reasonFor = (...domains: string[]) =>
      verdictOf(domains.map((domain) => ({ domain, candidate: 1.5, parent: 1.3 }))).reason
    // The purpose fails too.
    expect(reasonFor('legal')).toContain(' 1 more of its figures misses its limit.')
    expect(reasonFor('legal', 'code')).toContain(' 2 more of its figures miss their limits.')
  })

  test.each([
    // Two domains of equal weight: the standard error is that of one divided by √2, with 30 degrees of freedom.
    [1.002, 'passed'],
    [1.008, 'failed'],
  ])('that makes all domains %d × as perplexed is %s by its purpose', (ratio, verdict) => {
    const result = verdictOf([
      { domain: 'legal', candidate: 1.3 * ratio, parent: 1.3 },
      { domain: 'code', candidate: 1.3 * ratio, parent: 1.3 },
    ])
    expect(result.verdict).toBe(verdict)
    const purpose = result.figures.find(({ name }) => name === 'perplexity / parent, weighted')
    // At 96.76 %, the part of a first candidate.
    const margin = (1.91706 * 0.020656) / 4 / Math.SQRT2
    expect(purpose?.upper).toBeCloseTo(ratio * Math.exp(margin), 5)
    expect(purpose?.limit).toBe(1.01)
  })

  test('has wider bounds the more candidates were compared with the active mask before, and says so', () => {
    const sketches = [
      { domain: 'legal', candidate: 1.3 * 1.002, parent: 1.3 },
      { domain: 'code', candidate: 1.3 * 1.002, parent: 1.3 },
    ]
    expect(verdictOf(sketches).reason).toContain('with 96.8 % confidence at most')
    const third = verdictOf(sketches, { candidate: 3 })
    expect(third.verdict).toBe('failed')
    expect(third.reason).toContain(
      'It is candidate 3 beside the active mask, so its bounds have 99.63 % confidence.',
    )
    const uppers = [1, 2, 3, 6, 12, 99].map(
      (candidate) =>
        verdictOf(sketches, { candidate }).figures.find(({ name }) => name === 'perplexity / parent')
          ?.upper ?? 0,
    )
    expect(uppers).toEqual(uppers.toSorted((a, b) => a - b))
    // From about the twelfth on, hardly anything changes.
    expect(uppers[5]).toBeCloseTo(uppers[4] ?? 0, 4)
    // A mask that is much better passes, however many candidates there were before it.
    const better = sketches.map((sketch) => ({ ...sketch, candidate: 1.25 }))
    expect(verdictOf(better, { candidate: 99 }).verdict).toBe('passed')
  })

  test('weighs domains by traffic', () => {
    const domains = (weight: number): HoldoutSketch[] => [
      { domain: 'busy', candidate: 1.28, parent: 1.3, weight },
      { domain: 'quiet', candidate: 1.34, parent: 1.3, weight: 1 },
    ]
    expect(verdictOf(domains(9)).verdict).toBe('passed')
    const even = verdictOf(domains(1))
    expect(even.verdict).toBe('failed')
    expect(even.violations).toEqual([
      { domain: 'quiet', excess: expect.closeTo(Math.log(1.34 / 1.3), 9) as number },
    ])
  })

  test('may not add small losses up: the best mask on the same text is a limit too', () => {
    const result = verdictOf([
      { domain: 'legal', candidate: 1.32, parent: 1.31, best: { version: 2, ratio: 1.2 }, weight: 0.1 },
      { domain: 'code', candidate: 1.29, parent: 1.3 },
    ])
    expect(result.verdict).toBe('failed')
    expect(result.reason).toContain('its best mask (m2)')
    expect(result.violations.map(({ domain }) => domain)).toEqual(['legal'])
  })
})

describe('an update with a new domain', () => {
  const withNew = (ratio: number): HoldoutSketch[] => [
    { domain: 'old', candidate: 1.31, parent: 1.3 },
    { domain: 'new', candidate: 2 * ratio, parent: 2, isNew: true },
  ]

  test('passes when it is proven better over all domains', () => {
    const { verdict, figures } = verdictOf(withNew(0.8))
    expect(verdict).toBe('passed')
    expect(figures.find(({ name }) => name === 'perplexity / parent, weighted')).toMatchObject({ limit: 1 })
    expect(figures.filter(({ name }) => name === 'perplexity / parent').map(({ domain }) => domain)).toEqual([
      'old',
    ])
  })

  test('fails when it is not: a new domain has no constraint, but counts', () => {
    const { verdict, reason } = verdictOf(withNew(0.99))
    expect(verdict).toBe('failed')
    expect(reason).toContain('a bound below 1 × is required')
    expect(verdictOf(withNew(1.5)).verdict).toBe('failed')
  })
})

describe('the first mask of a model', () => {
  test.each([
    [1.5, 'passed'],
    [1.51, 'failed'],
  ])('with %d × the perplexity of dense on one domain is %s', (candidate, verdict) => {
    const result = verdictOf([
      { domain: 'legal', candidate: 1.2 },
      { domain: 'code', candidate },
    ])
    expect(result.verdict).toBe(verdict)
    expect(result.figures.map(({ name }) => name)).toEqual([
      'finite loss',
      'finite logits',
      'repetition',
      'entropy',
      'perplexity / dense',
      'perplexity / dense',
    ])
  })

  test('that is far above dense is damaged as a whole, which other weights do not mend', () => {
    expect(verdictOf([{ domain: 'a', candidate: 4 }]).violations).toEqual([
      { domain: 'a', excess: expect.closeTo(Math.log(4 / 1.5), 9) as number },
    ])
    expect(verdictOf([{ domain: 'a', candidate: 5 }]).violations).toEqual([])
    const noise = verdictOf([{ domain: 'a', candidate: 1e6 }])
    expect(noise.reason).toContain('1.00e+6 × that of the dense model; at most 1.500 × is allowed')
  })
})

describe('the general holdout', () => {
  const general = (candidate: number, parent: number): HoldoutSketch[] => [
    { domain: '(general)', candidate, parent, weight: 0 },
    { domain: 'legal', candidate: 1.2, parent: 1.3 },
  ]

  test('has the constraints of a domain and a limit against dense, but no part in the purpose', () => {
    expect(verdictOf(general(1.45, 1.44)).verdict).toBe('passed')
    expect(verdictOf(general(1.45, 1.37)).violations.map(({ domain }) => domain)).toEqual(['(general)'])
    const dense = verdictOf(general(1.51, 1.5))
    expect(dense.verdict).toBe('failed')
    expect(dense.reason).toContain("on '(general)' is 1.510 × that of the dense model")
  })
})

describe('where the active mask gives no finite loss', () => {
  const withBroken = (legal: number, code: number): HoldoutSketch[] => [
    { domain: 'legal', candidate: 1.2 * legal, parent: 1.2, best: { version: 4, ratio: 1.2 }, windows: 32 },
    { domain: 'code', candidate: code, best: { version: 4, ratio: 1 } },
  ]

  test('a holdout is compared with dense alone, and the others keep their constraints and the purpose', () => {
    const { verdict, figures } = verdictOf(withBroken(1, 1.5))
    expect(verdict).toBe('passed')
    const compared = figures.filter(({ name }) => name.startsWith('perplexity'))
    expect(compared.map(({ name, domain }) => [name, domain])).toEqual([
      ['perplexity / parent, weighted', null],
      ['perplexity / parent', 'legal'],
      ['perplexity / best', 'legal'],
      ['perplexity / dense', 'code'],
    ])
    expect(verdictOf(withBroken(1.06, 1)).violations.map(({ domain }) => domain)).toContain('legal')
    expect(verdictOf(withBroken(1, 1.51)).violations.map(({ domain }) => domain)).toEqual(['code'])
  })
})

describe('what can never serve', () => {
  const sound = [{ domain: 'legal', candidate: 1.3, parent: 1.3, windows: 32 }]
  const generating = (changes: Partial<typeof SOUND_GENERATION>) => ({
    generation: { candidate: { ...SOUND_GENERATION, ...changes }, dense: SOUND_GENERATION },
  })

  test.each([
    ['logits that are not finite', { finite: false }, 'finite logits'],
    ['an output that only repeats itself', { repetition: 0.95 }, 'repetition'],
    ['an output close to noise', { entropy: 5.1 }, 'entropy'],
    ['an entropy that is not finite', { entropy: null }, 'entropy'],
  ])('is a mask with %s', (_, changes, name) => {
    const { verdict, figures, violations } = verdictOf(sound, generating(changes))
    expect(verdict).toBe('failed')
    expect(figures.filter(({ passed }) => !passed).map((figure) => figure.name)).toEqual([name])
    expect(violations).toEqual([])
    expect(isForceableDecision(figures)).toBe(false)
  })

  test('is a mask without a finite loss; the others of its figures are still shown', () => {
    const { verdict, reason, figures } = verdictOf([
      ...sound,
      { domain: 'code', candidate: null, parent: 1.3 },
    ])
    expect([verdict, reason]).toEqual(['failed', 'Its loss is not finite on code.'])
    expect(isForceableDecision(figures)).toBe(false)
  })

  test('is told from a mask that is only worse, which can be forced', () => {
    const { verdict, figures } = verdictOf([{ domain: 'legal', candidate: 1.6, parent: 1.3 }])
    expect(verdict).toBe('failed')
    expect(isForceableDecision(figures)).toBe(true)
  })

  test('a dense model that repeats itself allows as much and 0.3 more', () => {
    const dense = { ...SOUND_GENERATION, repetition: 0.65, entropy: 1 }
    const generation = { candidate: { ...SOUND_GENERATION, repetition: 0.94, entropy: 3.9 }, dense }
    expect(verdictOf(sound, { generation }).verdict).toBe('passed')
    expect(verdictOf(sound, { generation: { ...generation, dense: SOUND_GENERATION } }).verdict).toBe(
      'failed',
    )
  })
})

test('without any held-out text a mask is not proven, but can be forced', () => {
  const { verdict, reason, figures } = verdictOf([])
  expect([verdict, reason]).toEqual(['failed', 'There is no held-out text to compare it on.'])
  expect(isForceableDecision(figures)).toBe(true)
})

test('limits and confidence are those of the policy', () => {
  const domains = [{ domain: 'legal', candidate: 1.3 * 1.042, parent: 1.3 }]
  const policy = { ...PRESETS.production.gate, max_refresh_regression: 1.1 }
  expect(verdictOf(domains, { policy }).verdict).toBe('failed')
  expect(verdictOf(domains, { policy: { ...policy, max_regression: 1.06 } }).verdict).toBe('passed')
  expect(verdictOf(domains, { policy: { ...policy, max_regression: 1.06, confidence: 0.999 } }).verdict).toBe(
    'failed',
  )
})

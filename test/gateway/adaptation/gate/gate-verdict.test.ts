import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { gateVerdict, isForceableDecision } from '../../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { reselectionWeights } from '../../../../gateway/src/adaptation/gate/reselection-weights.ts'
import { SOUND_GENERATION } from '../../support/doubles/simulated-node.ts'
import { gateInput, type HoldoutSketch } from './gate-holdouts.ts'

/**
 * Half of the width of a bound on a full holdout: window differences are ±0.02 around their mean, so s = 0.02 · √(16/15),
 * and constraints use 96 % for 95 %: t(0.96, 15) · s / √16 = 1.87774 · 0.020656 / 4.
 */
const MARGIN = 0.0096966

const verdictOf = (sketches: readonly HoldoutSketch[], changes: Parameters<typeof gateInput>[1] = {}) =>
  gateVerdict(gateInput(sketches, changes))
const figuresOf = (sketches: readonly HoldoutSketch[], name: string) =>
  verdictOf(sketches).figures.filter((figure) => figure.name === name)

describe('a refresh', () => {
  test('passes when nothing changes, with each bound shown against its limit', () => {
    const { verdict, reason, figures } = verdictOf([
      { domain: 'legal', candidate: 1.3, parent: 1.3, best: { version: 4, ratio: 1.25 } },
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
    // 1.05 / e^MARGIN = 1.0399: the bound decides, not the estimate.
    [1.039, 'passed'],
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
    expect(reason).toMatch(/on 'legal' is 1\.042 × .* bound of 1\.052 ×; at most 1\.050 × is allowed/)
    expect(violations).toEqual([
      { domain: 'legal', excess: expect.closeTo(Math.log(1.042 / 1.05) + MARGIN, 5) as number },
    ])
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
    const margin = (1.6973 * 0.020656) / 4 / Math.SQRT2
    expect(purpose?.upper).toBeCloseTo(ratio * Math.exp(margin), 5)
    expect(purpose?.limit).toBe(1.01)
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

describe('small holdouts', () => {
  test('are bounded together, and each keeps its own estimate below 1.10 ×', () => {
    const small = (one: number, two: number): HoldoutSketch[] => [
      { domain: 'one', candidate: 1.3 * one, parent: 1.3, windows: 4, weight: 0 },
      { domain: 'two', candidate: 1.3 * two, parent: 1.3, windows: 12, weight: 0 },
      { domain: 'full', candidate: 1.2, parent: 1.3 },
    ]
    const fine = figuresOf(small(1.08, 1), 'perplexity / parent')
    expect(
      fine.map(({ domain, value, limit, passed }) => [domain, value?.toFixed(3), limit, passed]),
    ).toEqual([
      ['full', '0.923', 1.05, true],
      [null, Math.exp(Math.log(1.08) / 4).toFixed(3), 1.05, true],
      ['one', '1.080', 1.1, true],
      ['two', '1.000', 1.1, true],
    ])
    // 14 degrees of freedom; the spread around the domains' own means gives s = 0.02 · √(16/14).
    expect(fine[1]?.upper).toBeCloseTo(
      (fine[1]?.value ?? 0) * Math.exp((1.8875 * 0.02 * Math.sqrt(16 / 14)) / 4),
      5,
    )
    expect(fine[1]?.note).toBe('together: one, two')
    const bad = verdictOf(small(1.11, 1))
    expect(bad.verdict).toBe('failed')
    expect(bad.violations).toEqual([
      { domain: 'one', excess: expect.closeTo(Math.log(1.11 / 1.1), 9) as number },
    ])
    expect(verdictOf(small(1, 1.06)).violations).toEqual([
      { domain: 'two', excess: expect.any(Number) as number },
    ])
  })

  test('that lost together are all named, also if the general holdout lost most', () => {
    const { verdict, violations } = verdictOf([
      { domain: 'books', candidate: 1.3 * 1.054, parent: 1.3, windows: 8, weight: 1 },
      { domain: '(general)', candidate: 1.3 * 1.071, parent: 1.3, windows: 8, weight: 0 },
      { domain: 'code', candidate: 0.9, parent: 1.3, weight: 3, isNew: true },
    ])
    expect(verdict).toBe('failed')
    expect(violations.map(({ domain }) => domain)).toEqual(['books', '(general)'])
    const weights = reselectionWeights(
      { domains: ['books', 'code'], known: ['books'], weights: {} },
      violations,
    )
    expect(weights?.['books']).toBeGreaterThan(weights?.['code'] ?? Infinity)
  })

  test('have no limit of their own below one that the policy allows even bounds', () => {
    const policy = { ...PRESETS.production.gate, max_regression: 1.2, max_refresh_regression: 1.2 }
    const small = [{ domain: 'one', candidate: 1.3 * 1.15, parent: 1.3, windows: 12 }]
    expect(verdictOf(small, { policy }).verdict).toBe('passed')
    expect(verdictOf(small, { policy: { ...policy, max_regression: 1.05 } }).verdict).toBe('failed')
  })

  describe('with too few windows for a bound together', () => {
    const beside = (tiny: Partial<HoldoutSketch>): HoldoutSketch[] => [
      { domain: 'full', candidate: 1.3, parent: 1.3 },
      { domain: 'tiny', candidate: 1.3, parent: 1.3, ...tiny },
    ]
    const note = 'too few windows for a bound: its own estimate'

    test.each([
      [1, 0.01],
      [1, 9],
      [2, 9],
      [4, 9],
    ])('do not block a mask: %d windows with %d × the weight', (windows, weight) => {
      // The differences of windows are far enough apart for a bound above every limit.
      const { verdict, reason, figures } = verdictOf(beside({ candidate: 1.36, windows, weight }))
      expect(verdict).toBe('passed')
      expect(reason).toContain('over all domains (without tiny: too few windows for a bound) is 1.000 ×')
      expect(figures.filter(({ name }) => name.startsWith('perplexity / parent'))).toMatchObject([
        {
          name: 'perplexity / parent, weighted',
          value: expect.closeTo(1, 9) as number,
          note: 'without tiny: too few windows for a bound',
        },
        { domain: 'full', limit: 1.05, upper: expect.any(Number) as number },
        { domain: 'tiny', limit: 1.1, upper: null, note },
      ])
    })

    test('keep their own estimates below 1.10 ×, and within the limit to their best mask', () => {
      const worse = verdictOf(beside({ candidate: 1.3 * 1.11, windows: 2 }))
      expect(worse.verdict).toBe('failed')
      expect(worse.violations).toEqual([{ domain: 'tiny', excess: expect.any(Number) as number }])
      const toBest = (ratio: number) =>
        verdictOf(beside({ windows: 2, best: { version: 4, ratio: 1.3 / ratio } }))
      expect(toBest(1.09).verdict).toBe('passed')
      const far = toBest(1.12)
      expect(far.verdict).toBe('failed')
      expect(far.reason).toBe(
        `Its perplexity on 'tiny' is 1.120 × that of its best mask (m4; ${note}); at most 1.100 × is allowed.`,
      )
      expect(far.violations.map(({ domain }) => domain)).toEqual(['tiny'])
    })

    test('are bounded from five windows on, also against the best mask', () => {
      const sketches = beside({ windows: 5, weight: 9, best: { version: 4, ratio: 1.3 } })
      const figures = verdictOf(sketches).figures.filter(({ domain }) => domain === 'tiny')
      expect(figures.map(({ name, upper, limit }) => [name, upper !== null, limit])).toEqual([
        ['perplexity / parent', true, 1.05],
        ['perplexity / parent', false, 1.1],
        ['perplexity / best', true, 1.1],
      ])
      expect(figures[2]?.note).toBe('m4')
      expect(figuresOf(sketches, 'perplexity / parent, weighted')[0]?.note).toBeUndefined()
    })

    test('are not bounded if each has a single window, however many they are', () => {
      const many = Array.from({ length: 6 }, (_, index) => ({
        domain: `tiny-${index}`,
        candidate: 1.3,
        parent: 1.3,
        windows: 1,
      }))
      expect(verdictOf([{ domain: 'full', candidate: 1.3, parent: 1.3 }, ...many]).verdict).toBe('passed')
    })

    test('are judged like this too if their windows are long', () => {
      const long = beside({ windows: 2, scored: 8191 })
      expect(verdictOf(long).verdict).toBe('passed')
      expect(figuresOf(long, 'perplexity / parent')[1]).toMatchObject({ domain: 'tiny', limit: 1.1, note })
    })

    test('and new: the others need not fall then, but the new one has the limit of a small one', () => {
      const withNew = (ratio: number) =>
        verdictOf(beside({ candidate: 1.3 * ratio, windows: 2, isNew: true }))
      const good = withNew(0.8)
      expect(good.verdict).toBe('passed')
      expect(good.figures.find(({ name }) => name === 'perplexity / parent, weighted')).toMatchObject({
        limit: 1.01,
      })
      const bad = withNew(1.11)
      expect(bad.verdict).toBe('failed')
      expect(bad.violations.map(({ domain }) => domain)).toEqual(['tiny'])
    })

    test('and without any other domain do not prove a mask', () => {
      const { verdict, figures } = verdictOf([{ domain: 'tiny', candidate: 1.2, parent: 1.3, windows: 1 }])
      expect(verdict).toBe('failed')
      expect(figures.find(({ name }) => name === 'perplexity / parent, weighted')).toMatchObject({
        upper: null,
        passed: false,
      })
      expect(figures.find(({ name }) => name === 'perplexity / parent')).toMatchObject({ note, passed: true })
    })
  })
})

describe('where the active mask gives no finite loss', () => {
  const withBroken = (legal: number, code: number): HoldoutSketch[] => [
    { domain: 'legal', candidate: 1.2 * legal, parent: 1.2, best: { version: 4, ratio: 1.2 } },
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
  const sound = [{ domain: 'legal', candidate: 1.3, parent: 1.3 }]
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

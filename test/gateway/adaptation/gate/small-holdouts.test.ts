import { describe, expect, test } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { gateVerdict } from '../../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { reselectionWeights } from '../../../../gateway/src/adaptation/gate/reselection-weights.ts'
import { gateInput, type HoldoutSketch } from './gate-holdouts.ts'

const verdictOf = (sketches: readonly HoldoutSketch[], changes: Parameters<typeof gateInput>[1] = {}) =>
  gateVerdict(gateInput(sketches, changes))
const figuresOf = (sketches: readonly HoldoutSketch[], name: string) =>
  verdictOf(sketches).figures.filter((figure) => figure.name === name)

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
      (fine[1]?.value ?? 0) * Math.exp((2.12537 * 0.02 * Math.sqrt(16 / 14)) / 4),
      5,
    )
    expect(fine[1]?.note).toBe('together: one, two')
    const bad = verdictOf(small(1.11, 1))
    expect(bad.verdict).toBe('failed')
    const reasonOf = (sketches: readonly HoldoutSketch[]) => verdictOf(sketches).reason
    expect(reasonOf(small(1.09, 1.09))).toMatch(
      /^Its perplexity on 'one' and 'two' together is 1\.090 × that of the active mask, with an upper bound of /,
    )
    const worseThanBest = small(1, 1).map((each) => ({ ...each, best: { version: 4, ratio: 1 } }))
    expect(reasonOf(worseThanBest.slice(0, 2))).toContain(
      "on 'one' and 'two' together is 1.300 × that of their best masks, ",
    )
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
      { domain: 'full', candidate: 1.3, parent: 1.3, windows: 32 },
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
      expect(verdictOf([{ domain: 'full', candidate: 1.3, parent: 1.3, windows: 32 }, ...many]).verdict).toBe(
        'passed',
      )
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

import { describe, expect, test } from 'vitest'
import { reselectionWeights } from '../../../../gateway/src/adaptation/gate/reselection-weights.ts'

describe('the weights of the next candidate', () => {
  test('raise a domain by a factor that grows with its excess, and lower the others relatively', () => {
    const mask = { domains: ['legal', 'code'], known: [], weights: {} }
    // Factor 2 + 40 · 0.025 = 3: weights 3 and 1, scaled to a mean of 1.
    expect(reselectionWeights(mask, [{ domain: 'legal', excess: 0.025 }])).toEqual({
      legal: expect.closeTo(3 / 2, 12) as number,
      code: expect.closeTo(1 / 2, 12) as number,
    })
  })

  test('raise no domain by more than 4', () => {
    const weights = reselectionWeights({ domains: ['a', 'b'], known: [], weights: {} }, [
      { domain: 'a', excess: 9 },
    ])
    expect((weights?.['a'] ?? 0) / (weights?.['b'] ?? 1)).toBeCloseTo(4, 12)
  })

  test('start from those of the candidate before, and take the largest excess of a domain', () => {
    const violations = [
      { domain: 'a', excess: 0.0125 },
      { domain: 'a', excess: 0.05 },
    ]
    const mask = { domains: ['a', 'b', 'c'], known: [], weights: { a: 2, c: 0 } }
    // a: 2 · (2 + 2) = 8, b: 1, c: 0; the mean is 3.
    expect(reselectionWeights(mask, violations)).toEqual({
      a: expect.closeTo(8 / 3, 12) as number,
      b: expect.closeTo(1 / 3, 12) as number,
      c: 0,
    })
  })

  test('start from 1 for a domain that is not named, whatever its name is', () => {
    const weights = (name: string) =>
      Object.values(
        reselectionWeights({ domains: [name, 'code'], known: [], weights: { code: 2 } }, [
          { domain: 'code', excess: 0.01 },
        ]) ?? {},
      )
    expect(weights('constructor')).toEqual(weights('legal'))
  })

  test('raise the domains that the active mask knows where the general holdout alone lost', () => {
    const mask = { domains: ['old', 'new'], known: ['old'], weights: {} }
    const weights = reselectionWeights(mask, [{ domain: '(general)', excess: 0.025 }])
    expect((weights?.['old'] ?? 0) / (weights?.['new'] ?? 1)).toBeCloseTo(3, 12)
  })

  test.each([
    ['no domain of the mask lost too much', ['a', 'b'], ['other']],
    ['the general holdout lost, and the active mask knows no domain', ['a', 'b'], ['(general)']],
    ['every domain did', ['a', 'b'], ['a', 'b']],
    ['there is only one domain', ['a'], ['a']],
  ])('do not exist when %s', (_, domains, violated) => {
    const violations = violated.map((domain) => ({ domain, excess: 0.1 }))
    expect(reselectionWeights({ domains, known: [], weights: {} }, violations)).toBeUndefined()
  })
})

import { describe, expect, test } from 'vitest'
import { reselectionWeights } from '../../../../gateway/src/adaptation/gate/reselection-weights.ts'

describe('the weights of the next candidate', () => {
  test('raise a domain by a factor that grows with its excess, and lower the others relatively', () => {
    // Factor 1.5 + 10 · 0.05 = 2: weights 2 and 1, scaled to a mean of 1.
    expect(reselectionWeights(['legal', 'code'], {}, [{ domain: 'legal', excess: 0.05 }])).toEqual({
      legal: expect.closeTo(4 / 3, 12) as number,
      code: expect.closeTo(2 / 3, 12) as number,
    })
  })

  test('raise no domain by more than 4', () => {
    const weights = reselectionWeights(['a', 'b'], {}, [{ domain: 'a', excess: 9 }])
    expect((weights?.['a'] ?? 0) / (weights?.['b'] ?? 1)).toBeCloseTo(4, 12)
  })

  test('start from those of the candidate before, and take the largest excess of a domain', () => {
    const violations = [
      { domain: 'a', excess: 0.01 },
      { domain: 'a', excess: 0.1 },
    ]
    const weights = reselectionWeights(['a', 'b', 'c'], { a: 2, c: 0 }, violations)
    // a: 2 · (1.5 + 1) = 5, b: 1, c: 0; the mean is 2.
    expect(weights).toEqual({ a: 2.5, b: 0.5, c: 0 })
  })

  test.each([
    ['no domain of the mask lost too much', ['a', 'b'], ['(general)', 'other']],
    ['every domain did', ['a', 'b'], ['a', 'b']],
    ['there is only one domain', ['a'], ['a']],
  ])('do not exist when %s', (_, domains, violated) => {
    const violations = violated.map((domain) => ({ domain, excess: 0.1 }))
    expect(reselectionWeights(domains, {}, violations)).toBeUndefined()
  })
})

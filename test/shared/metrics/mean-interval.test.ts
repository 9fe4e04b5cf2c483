import { expect, test } from 'vitest'
import { meanInterval } from '@copal/shared/metrics/mean-interval.ts'

const moments = (values: readonly number[]) => ({
  count: values.length,
  sum: values.reduce((sum, value) => sum + value, 0),
  squares: values.reduce((sum, value) => sum + value * value, 0),
})

test("an interval of means is Student's", () => {
  // The mean ∓ 2.570582 standard errors, from the printed table for 5 degrees of freedom.
  const interval = meanInterval(moments([0.31, 0.27, 0.35, 0.29, 0.4, 0.22]))
  expect(interval?.mean).toBeCloseTo(0.306667, 6)
  expect(interval?.lower).toBeCloseTo(0.240738, 5)
  expect(interval?.upper).toBeCloseTo(0.372595, 5)
})

test('an interval of equal values is one point, and of fewer than five values there is none', () => {
  const { mean, lower, upper } = meanInterval(moments(Array.from({ length: 9 }, () => 0.1))) ?? {}
  expect(lower).toBeCloseTo(mean ?? Number.NaN, 7)
  expect(upper).toBeCloseTo(mean ?? Number.NaN, 7)
  expect(meanInterval(moments([1, 2, 3, 4]))).toBeNull()
})

import { expect, test } from 'vitest'
import { meanNll, perplexity } from '@copal/shared/metrics/perplexity.ts'

test('a uniform distribution over v tokens has perplexity v', () => {
  expect(perplexity(Math.log(49152))).toBeCloseTo(49152, 6)
  expect(perplexity(0)).toBe(1)
  expect(perplexity(800)).toBe(Infinity)
})

test('the mean over no tokens is NaN', () => {
  expect(meanNll(12, 4)).toBe(3)
  expect(meanNll(0, 0)).toBeNaN()
})

import { expect, test } from 'vitest'
import { meanNll, perplexity } from '@copal/shared/metrics/perplexity.ts'

test('a model that is indifferent between v tokens has perplexity v', () => {
  expect(perplexity(Math.log(49152))).toBeCloseTo(49152, 6)
  expect(perplexity(0)).toBe(1)
  expect(perplexity(800)).toBe(Infinity)
})

test('a sum over no tokens has no mean', () => {
  expect(meanNll(12, 4)).toBe(3)
  expect(meanNll(0, 0)).toBeNaN()
})

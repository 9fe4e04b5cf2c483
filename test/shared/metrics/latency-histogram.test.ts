import { expect, test } from 'vitest'
import {
  DURATION_BOUNDS_MS,
  FIRST_TOKEN_BOUNDS_MS,
  histogramQuantile,
} from '@copal/shared/metrics/latency-histogram.ts'

test('a quantile lies within its bucket, in proportion to the values below', () => {
  const bounds = [10, 20, 40]
  expect(histogramQuantile([0, 4, 0, 0], bounds, 0.5)).toBe(15)
  expect(histogramQuantile([1, 1, 2, 0], bounds, 0.5)).toBe(20)
  expect(histogramQuantile([1, 1, 2, 0], bounds, 0.75)).toBe(30)
  expect(histogramQuantile([0, 0, 0, 3], bounds, 0.95)).toBe(40)
  expect(histogramQuantile([0, 0, 0, 0], bounds, 0.5)).toBeNull()
})

test('the bounds ascend, and those of first tokens begin with what the GenAI conventions advise', () => {
  for (const bounds of [FIRST_TOKEN_BOUNDS_MS, DURATION_BOUNDS_MS])
    expect([...bounds].sort((a, b) => a - b)).toEqual(bounds)
  expect(FIRST_TOKEN_BOUNDS_MS.slice(0, 16).map((bound) => bound / 1000)).toEqual([
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
  ])
})

import { expect, test } from 'vitest'
import { percentile } from '../../../../gpu-node/bench/measurement/percentile.ts'
import { differences, ratios, turnOf } from '../../../../gpu-node/bench/gateways/sample.ts'

test('a percentile is the value below which that share of values lies', () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1)
  expect([0.5, 0.99, 1].map((share) => percentile(values, share))).toEqual([51, 100, 100])
  expect(percentile([], 0.5)).toBeNaN()
})

test('over one round per contender each is first once', () => {
  expect([0, 1, 2].map((round) => turnOf(['a', 'b', 'c'], round).join(''))).toEqual(['abc', 'bca', 'cab'])
})

test('contenders are compared within their round', () => {
  expect(ratios([10, 20, 60], [10, 10, 20])).toEqual({ median: 2, min: 1, max: 3, count: 3 })
  expect(differences([3, 9], [1, 2])).toEqual({ median: 4.5, min: 2, max: 7, count: 2 })
})

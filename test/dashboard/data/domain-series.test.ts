import { expect, test } from 'vitest'
import type { SeriesReport } from '@copal/shared/wire/admin-series.ts'
import { joinMasks, lastKnown, mapLine } from '../../../gateway/dashboard/src/data/domain-series.ts'
import { maskSeries } from '../../support/dashboard/mask-series.ts'

const report: SeriesReport = {
  model: 'm',
  width: 60,
  starts: [0, 60, 120, 180],
  series: [
    maskSeries('code', 1, [0, 1], [4, 1], 0.1),
    maskSeries('code', 2, [1, 2], [3, 4], 0.2),
    maskSeries('speech', 2, [0, 1, 2, 3], [1, 1, 1, 1], 0.3),
  ],
  marks: [],
}

test('each period shows the mask under which most of its requests were scored', () => {
  const { gap, pruned, dense } = joinMasks(report, 'code')
  expect(gap.values).toEqual([0.1, 0.2, 0.2, null])
  expect(pruned.values).toEqual([2.1, 2.2, 2.2, null])
  expect([dense.lower, dense.upper].map((bound) => bound[3])).toEqual([null, null])
})

test('traffic is summed over masks, and so are the reasons why requests were not scored', () => {
  const { requests, tokens, totals } = joinMasks(report, 'code')
  expect(requests).toEqual([10, 20, 10, 0])
  expect(tokens).toEqual([150, 300, 150, 0])
  expect(totals).toEqual({
    requests: 40,
    failed: 4,
    tokens: 600,
    scored: 12,
    notScored: { not_sampled: 12, too_short: 0, budget: 8, evicted: 0, failed: 0 },
  })
})

test('an unknown domain has no values', () => {
  const joined = joinMasks(report, 'poetry')
  expect(joined.gap.values).toEqual([null, null, null, null])
  expect(lastKnown(joined.gap)).toBeUndefined()
})

test('the last known value comes with its interval', () => {
  const last = lastKnown(mapLine(joinMasks(report, 'code').gap, (nats) => nats * 100))
  expect([last?.mean, last?.lower, last?.upper].map((value) => Math.round(value ?? 0))).toEqual([20, 19, 21])
})

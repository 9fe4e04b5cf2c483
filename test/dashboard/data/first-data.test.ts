import { expect, test } from 'vitest'
import type { GapsReport } from '@copal/shared/wire/admin-series.ts'
import { gapsFromFirstData, seriesFromFirstData } from '../../../gateway/dashboard/src/data/first-data.ts'
import { maskSeries } from '../../support/dashboard/mask-series.ts'

const DAY = Array.from({ length: 288 }, (_, index) => index * 300)
const gapsOf = (...firsts: (number | undefined)[]): GapsReport => ({
  model: 'm',
  width: 300,
  starts: DAY,
  domains: firsts.map((first, index) => ({
    domain: `d${index}`,
    tokens: 1,
    gap: DAY.map((_, period) => (first !== undefined && period >= first ? 0.1 : null)),
  })),
  marks: [],
})
const shown = (report: GapsReport) => report.starts.length

test('a chart of a day begins with the first data', () => {
  const report = gapsFromFirstData(gapsOf(250, undefined, 240))
  expect(report.starts).toEqual(DAY.slice(240))
  expect(report.domains.map(({ gap }) => gap.findIndex((nats) => nats !== null))).toEqual([10, -1, 0])
})

test('a chart has at least six periods, and all if the first has data', () => {
  expect([shown(gapsFromFirstData(gapsOf(286))), shown(gapsFromFirstData(gapsOf(0, 286)))]).toEqual([6, 288])
  const short = gapsOf()
  expect(shown(gapsFromFirstData({ ...short, starts: DAY.slice(0, 4) }))).toBe(4)
})

test('the periods of a domain under its masks move with the beginning', () => {
  const masks = [[200, 201], [], [201, 287]].map((periods) => maskSeries('d', 1, periods, periods, 0.1))
  const { starts, series } = seriesFromFirstData({
    model: 'm',
    width: 300,
    starts: DAY,
    series: masks,
    marks: [],
  })
  expect([starts[0], starts.length]).toEqual([60_000, 88])
  expect(series.map(({ periods }) => periods)).toEqual([[0, 1], [], [1, 87]])
})

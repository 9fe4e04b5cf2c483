import { expect, test } from 'vitest'
import { seriesTimes } from '../../../../gateway/src/usage/series/series-times.ts'

const NOW_MS = Date.UTC(2026, 10, 28, 19, 31, 20)
const deps = { nowMs: () => NOW_MS, seriesDays: { minutes: 2, hours: 60, days: 730 } }
const ago = (hours: number) => new Date(NOW_MS - hours * 3_600_000).toISOString()

test.each([
  ['5 hours of this day', ago(5), undefined, 60],
  ['the last 24 hours by default', undefined, undefined, 300],
  ['5 hours of last week, whose minutes are gone', ago(7 * 24), ago(7 * 24 - 5), 3_600],
  ['ten days', ago(240), undefined, 3_600],
  ['a week of last spring, whose hours are gone', ago(200 * 24), ago(193 * 24), 86_400],
  ['a year', ago(365 * 24), undefined, 86_400],
])('the width of %s has at most 300 periods that are kept, or a day', (_name, from, to, width) => {
  const times = seriesTimes({ from, to, width: undefined }, deps)
  expect(times.width).toBe(width)
  expect([times.from % width, times.until % width]).toEqual([0, 0])
  expect(times.from).toBeLessThanOrEqual((from === undefined ? NOW_MS - 86_400_000 : Date.parse(from)) / 1000)
  expect(times.until).toBeGreaterThanOrEqual((to === undefined ? NOW_MS : Date.parse(to)) / 1000)
})

test('a named width is taken, if it does not give too many periods', () => {
  expect(seriesTimes({ from: ago(24), to: undefined, width: 60 }, deps).width).toBe(60)
  expect(() => seriesTimes({ from: ago(26), to: undefined, width: 60 }, deps)).toThrow(
    /more than 1500 periods of 60 s/,
  )
  expect(() => seriesTimes({ from: ago(5 * 365 * 24), to: undefined, width: undefined }, deps)).toThrow(
    /Name a shorter time\.$/,
  )
})

test('a time that ends before it begins, or begins before 1970, is an error of the request', () => {
  expect(() => seriesTimes({ from: undefined, to: '1969-12-31T12:00:00Z', width: undefined }, deps)).toThrow(
    /begins in 1970 or later/,
  )
  expect(() => seriesTimes({ from: undefined, to: '0000-01-01T00:00:00Z', width: undefined }, deps)).toThrow(
    /1970/,
  )
  expect(() => seriesTimes({ from: ago(-1), to: undefined, width: undefined }, deps)).toThrow(
    /'from' must be before/,
  )
})

import { expect, test } from 'vitest'
import type { SeriesMark } from '@copal/shared/wire/admin-series.ts'
import { heatClass, heatLegend, heatRange } from '../../../gateway/dashboard/src/charts/heat-levels.ts'
import {
  groupAt,
  groupMarks,
  markWithUpdate,
  minMarkGap,
} from '../../../gateway/dashboard/src/charts/marks.ts'
import { yRange, type Line } from '../../../gateway/dashboard/src/charts/plot-data.ts'
import { bandPath, isAlone, linePath } from '../../../gateway/dashboard/src/charts/plot-paths.ts'
import { sparkScales } from '../../../gateway/dashboard/src/charts/spark-scales.ts'
import { timeLabel, timeTicks } from '../../../gateway/dashboard/src/charts/time-axis.ts'

const line = (values: (number | null)[], bounds?: { lower: number[]; upper: number[] }): Line => ({
  label: 'x',
  colour: 0,
  values,
  ...bounds,
})
const content = (lines: Line[], bounds: number[] = []) => ({
  x: [0, 1],
  xEnd: 2,
  lines,
  bounds: bounds.map((value) => ({ value, label: '' })),
  markAt: [],
})

const scales = { x: (index: number) => 10 * index, y: (value: number) => 100 - value }

test('a line and its band have gaps where values are missing', () => {
  expect(linePath([1, 2, null, 4, 5.25], scales)).toBe('M0,99L10,98M30,96L40,94.8')
  expect(bandPath([0, 1, null, 3, 4], [2, 3, null, 5, 6], scales)).toBe(
    'M0,98L10,97L10,99L0,100ZM30,95L40,94L40,96L30,97Z',
  )
  expect([linePath([null], scales), bandPath([null, 1], [2, null], scales)]).toEqual(['', ''])
})

test('only values between gaps are drawn as points with their intervals', () => {
  const values = [1, null, 2, 3, null, 4]
  const upper = values.map((value) => (value === null ? null : value + 1))
  expect(linePath(values, scales, isAlone)).toBe('M0,99ZM50,96Z')
  expect(bandPath(values, upper, scales, isAlone)).toBe('M0,98L0,99ZM50,95L50,96Z')
  expect(bandPath([null, 4], [null, null], scales, isAlone)).toBe('')
})

test('the labels of a time axis are round times of the local day, also where it has 23 or 25 hours', () => {
  const at = (month: number, day: number, hour: number, minute = 0) =>
    new Date(2026, month, day, hour, minute).getTime() / 1000
  expect(timeTicks(at(10, 27, 20, 30), at(10, 28, 7), 4)).toEqual([
    at(10, 27, 21),
    at(10, 28, 0),
    at(10, 28, 3),
    at(10, 28, 6),
  ])
  expect(timeTicks(at(10, 27, 20), at(10, 30, 1), 3)).toEqual([at(10, 28, 0), at(10, 29, 0), at(10, 30, 0)])
  for (const [month, day] of [
    [2, 29],
    [9, 25],
  ] as const) {
    const ticks = timeTicks(at(month, day - 1, 12), at(month, day + 1, 12), 16)
    expect(ticks.map((tick) => new Date(tick * 1_000).getHours())).toEqual([
      12, 15, 18, 21, 0, 3, 6, 9, 12, 15, 18, 21, 0, 3, 6, 9, 12,
    ])
  }
})

test('the labels of a short time are whole minutes', () => {
  const start = new Date(2026, 10, 28, 3).getTime() / 1000
  expect(timeTicks(start, start + 240, 12)).toEqual([0, 60, 120, 180, 240].map((passed) => start + passed))
})

test('the labels of days are apart where a month of 31 days ends', () => {
  const at = (month: number, day: number) => new Date(2026, month, day).getTime() / 1000
  const days = timeTicks(at(9, 26), at(10, 4), 4).map((tick) => new Date(tick * 1_000).getDate())
  expect(days).toEqual([27, 29, 31, 3])
})

test('the y axis holds bands and bounds', () => {
  const [low, high] = yRange(content([line([1, 2], { lower: [0.5, 1], upper: [2, 4] })], [5]), true)
  expect(low).toBe(0)
  expect(high).toBeGreaterThan(5)
  expect(yRange(content([line([null, null])]), true)).toEqual([0, 1])
  const [flatLow, flatHigh] = yRange(content([line([3, 3])]), false)
  expect(flatLow).toBeLessThan(3)
  expect(flatHigh).toBeGreaterThan(3)
  const [below, zero] = yRange(content([line([-2, -1])]), true)
  expect([below < -2, zero]).toEqual([true, 0])
})

const markAt = (seconds: number): SeriesMark => ({
  at: new Date(seconds * 1000).toISOString(),
  kind: 'promoted',
  mask_version: 1,
  domain: null,
  update: null,
  text: '',
})

test('marks that are close share a place, and those outside the axis are left out', () => {
  const groups = groupMarks([markAt(101), markAt(100), markAt(150), markAt(99), markAt(201)], 100, 200, 0.025)
  expect(groups.map(({ position, marks }) => [position, marks.length])).toEqual([
    [0, 2],
    [0.5, 1],
  ])
})

test('marks whose buttons would lie on each other share a place, which depends on the width of the chart', () => {
  const places = (chartPixels: number) =>
    groupMarks([markAt(100), markAt(106)], 100, 200, minMarkGap(chartPixels)).length
  expect([places(358), places(1100)]).toEqual([1, 2])
})

test('the decisions at the pointer are the nearest, and none if all are far', () => {
  const groups = groupMarks([markAt(100), markAt(150)], 100, 200, 0.025)
  expect(groupAt(groups, 0.46, 0.05)?.position).toBe(0.5)
  expect(groupAt(groups, 0.3, 0.05)).toBeUndefined()
  expect(groupAt([], 0.3, 1)).toBeUndefined()
})

test('a click opens the newest update of a place', () => {
  const [first, last] = [
    { ...markAt(100), update: 'a' },
    { ...markAt(101), update: 'b' },
  ]
  const [group] = groupMarks([first, last, markAt(101.5)], 100, 200, 0.025)
  expect(group && markWithUpdate(group)?.update).toBe('b')
  expect(markWithUpdate({ position: 0, marks: [markAt(100)] })).toBeUndefined()
})

test('a diverging scale is symmetric around zero, a sequential one has the ends of its values', () => {
  const values = [
    [-1, 4],
    [null, 0],
  ]
  expect(heatRange(values, 'diverging')).toEqual({ low: -4, high: 4 })
  expect(heatRange(values, 'sequential')).toEqual({ low: -1, high: 4 })
  expect(heatRange([[null]], 'sequential')).toEqual({ low: 0, high: 0 })
  const range = heatRange(values, 'diverging')
  expect([4, -4, 0, -2, null].map((value) => heatClass(value, range, 'diverging'))).toEqual([
    'heat-6',
    'cold-6',
    'heat-0',
    'cold-3',
    'heat-none',
  ])
  expect([1, 5, 9].map((value) => heatClass(value, { low: 1, high: 9 }, 'sequential'))).toEqual([
    'seq-0',
    'seq-3',
    'seq-6',
  ])
  expect(heatClass(1, { low: 1, high: 1 }, 'sequential')).toBe('seq-0')
})

test('the legend of a diverging scale ends at the values that there are, and at zero', () => {
  const legend = (values: readonly (number | null)[]) =>
    heatLegend([values], heatRange([values], 'diverging'), 'diverging')
  // Perplexity cannot be 166 % below that of the dense weights.
  expect(legend([0, 25, 166])).toEqual({
    low: 0,
    high: 166,
    levels: ['heat-0', 'heat-2', 'heat-4', 'heat-6'],
  })
  expect(legend([-3, 30])).toMatchObject({ low: -3, high: 30, levels: expect.arrayContaining(['cold-2']) })
  expect(legend([-4, 4]).levels).toHaveLength(7)
  expect(legend([null])).toEqual({ low: 0, high: 0, levels: ['heat-0'] })
})

test('a small line begins at 0 and has room for dots at its ends', () => {
  const path = (values: (number | null)[]) => linePath(values, sparkScales(values, 16, 8))
  expect(path([0, 1, null, 1])).toBe('M2,6L6,2M14,2Z')
  expect(path([2, 2])).toBe('M2,2L14,2')
  expect(path([0, 0])).toBe('M2,6L14,6')
  expect(path([1])).toBe('M8,2Z')
})

test('a time axis shows hours, and the day where it begins', () => {
  const labels = [20, 24, 28].map((hour) => timeLabel(new Date(2026, 10, 27, hour).getTime() / 1000))
  expect(labels).toEqual(['20:00', '28 Nov', '04:00'])
})

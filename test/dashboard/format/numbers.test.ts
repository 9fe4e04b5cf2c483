import { expect, test } from 'vitest'
import {
  formatBytes,
  formatCount,
  formatCountTick,
  formatDuration,
  formatExact,
  formatLossDifference,
  formatMs,
  formatNats,
  formatNumber,
  formatPercentTick,
  formatShare,
  formatSignedPercent,
  plural,
} from '../../../gateway/dashboard/src/format/numbers.ts'

/** Units stand behind a narrow space that does not break. */
const spaced = (text: string) => text.replaceAll('\u202F', ' ')

test.each([
  [0.21234, '0.212'],
  [1234.5, '1,230'],
  [-0.05, '−0.05'],
  [-0, '0'],
  [-12_345, '−12.3k'],
  [346_000_000_000, '346B'],
  [null, '–'],
  [Number.NaN, '–'],
])('%s has three significant digits: %s', (value, text) => {
  expect(formatNumber(value)).toBe(text)
})

test.each([
  [0, '0'],
  [1234, '1,234'],
  [9999, '9,999'],
  [9999.6, '10k'],
  [12_345, '12.3k'],
  [999_600, '1M'],
  [4_560_000, '4.56M'],
  [7_890_000_000, '7.89B'],
  [-12_345, '−12.3k'],
  [undefined, '–'],
])('a count of %s is %s', (value, text) => {
  expect(formatCount(value)).toBe(text)
})

test('an axis of counts has no label twice', () => {
  expect([0, 0.5, 1].map(formatCountTick)).toEqual(['0', '', '1'])
  expect([0, 2_500, 50_000].map(formatCountTick)).toEqual(['0', '2,500', '50k'])
})

test('labels of a mask that harms stay short', () => {
  expect(spaced(formatPercentTick(4_440_000))).toBe('+4.44M %')
  expect(formatExact(7_800_000)).toBe('7.80M')
})

test('tiny shares and changes have no row of zeros', () => {
  expect(spaced(formatShare(1.2e-8))).toBe('<0.001 %')
  expect(formatShare(0)).toBe('0\u202F%')
  expect(spaced(formatSignedPercent(-0.000_02))).toBe('0 %')
  expect(spaced(formatSignedPercent(0.001_2))).toBe('+0.00120 %')
})

test('shares, bytes and times carry their units', () => {
  expect([0.4123, 1, 0.00012].map((share) => spaced(formatShare(share)))).toEqual([
    '41.2 %',
    '100 %',
    '0.012 %',
  ])
  expect([0, 999, 1_430_000_000, 999_700].map((bytes) => spaced(formatBytes(bytes)))).toEqual([
    '0 B',
    '999 B',
    '1.43 GB',
    '1 MB',
  ])
  expect([212.4, 999.7, 1_234, 200_000].map((ms) => spaced(formatMs(ms)))).toEqual([
    '212 ms',
    '1 s',
    '1.23 s',
    '3 min 20 s',
  ])
})

test.each([
  [40, '40 s'],
  [200, '3 min 20 s'],
  [180, '3 min'],
  [1_800, '30 min'],
  [7_800, '2 h 10 min'],
  [3_600, '1 h'],
  [3_599, '1 h'],
  [86_400 * 3, '3 d'],
  [86_400 + 7_200, '1 d 2 h'],
])('%s seconds are %s', (seconds, text) => {
  expect(spaced(formatDuration(seconds))).toBe(text)
})

test('a difference of losses is a change of perplexity, with a sign and three digits', () => {
  expect(spaced(formatLossDifference(0.21))).toBe('+23.4 %')
  expect(spaced(formatLossDifference(-0.021))).toBe('−2.08 %')
  expect(spaced(formatLossDifference(0))).toBe('0 %')
  expect(formatLossDifference(null)).toBe('–')
  expect(spaced(formatNats(0.21))).toBe('+0.21 nats')
})

test('perplexities in a column have three digits each', () => {
  expect([7.2, 12.46, 1234, null].map((value) => formatExact(value))).toEqual(['7.20', '12.5', '1,230', '–'])
})

test('changes in a column align, and those on an axis are short', () => {
  expect(spaced(formatSignedPercent(4.9))).toBe('+4.90 %')
  expect(spaced(formatPercentTick(4))).toBe('+4 %')
})

test('a noun agrees with its number', () => {
  expect([plural(1, 'node'), plural(3, 'node'), plural(2, 'reply', 'replies')]).toEqual([
    '1 node',
    '3 nodes',
    '2 replies',
  ])
})

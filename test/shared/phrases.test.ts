import { expect, test } from 'vitest'
import { capitalize, counted, formatTime, listNames, percentOf } from '../../shared/src/phrases.ts'

test('names are joined, and many are counted', () => {
  expect(
    [[], ['a'], ['a', 'b'], ['a', 'b', 'c'], ['a', 'b', 'c', 'd']].map((names) => listNames(names, 3)),
  ).toEqual(['', 'a', 'a and b', 'a, b and c', 'a, b and 2 others'])
})

test('sentences begin with a capital, and count and measure in one way', () => {
  expect([capitalize(''), capitalize('one fails')]).toEqual(['', 'One fails'])
  expect([0, 1, 1200].map((count) => counted(count, 'window'))).toEqual([
    '0 windows',
    '1 window',
    '1,200 windows',
  ])
  expect([0.5, 0.0421].map(percentOf)).toEqual(['50 %', '4.2 %'])
})

test('a time is in UTC, to the minute', () => {
  const iso = '2026-12-01T12:01:38.629Z'
  expect([formatTime(iso), formatTime(Date.parse(iso))]).toEqual(Array(2).fill('2026-12-01 12:01 UTC'))
})

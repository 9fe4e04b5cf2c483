import { expect, test } from 'vitest'
import {
  formatClock,
  formatRelative,
  formatSince,
  formatTime,
  formatUtc,
  roundEstimate,
  secondsLeft,
  withoutTimeLeft,
  withTimeLeft,
} from '../../../gateway/dashboard/src/format/times.ts'

/** Local time, whatever the zone of the machine. */
const local = (day: number, hour: number, minute: number, year = 2026) =>
  new Date(year, 10, day, hour, minute).getTime()
const now = local(28, 12, 30)
const spaced = (text: string) => text.replaceAll('\u202F', ' ')

test.each([
  [now - 2_000, 'just now'],
  [now - 40_000, '40 s ago'],
  [now - 12 * 60_000, '12 min ago'],
  [now + 5 * 60_000, 'in 5 min'],
  [local(28, 3, 12), '03:12'],
  [local(27, 3, 12), '27 Nov, 03:12'],
  [local(27, 3, 12, 2025), '27 Nov 2025, 03:12'],
])('a time within an hour is relative, then by the clock: %#', (at, text) => {
  expect(spaced(formatTime(at, now))).toBe(text)
})

test('ISO 8601 is read as UTC and shown so on hover', () => {
  expect(formatUtc('2026-11-27T03:12:45Z')).toBe('2026-11-27 03:12:45 UTC')
  expect(formatClock(new Date(now).toISOString(), now)).toBe('12:30')
  expect(formatClock('no time', now)).toBe('')
})

test('a beginning is told by its length within an hour, then by the clock', () => {
  expect(spaced(formatSince(now - 12 * 60_000, now))).toBe('for 12 min')
  expect(formatSince(local(28, 3, 12), now)).toBe('since 03:12')
  expect(spaced(formatRelative(now - 3 * 3_600_000, now))).toBe('3 h ago')
})

test('the time left follows from the progress so far, and is not told at the very start', () => {
  expect(secondsLeft(now - 60_000, 0.25, now)).toBeCloseTo(180)
  expect(secondsLeft(now - 60_000, 0.04, now)).toBeUndefined()
  expect(secondsLeft(now - 60_000, 1, now)).toBeUndefined()
  expect(secondsLeft(now + 60_000, 0.5, now)).toBeUndefined()
  expect([7, 184, 1_340, 20_000].map(roundEstimate)).toEqual([10, 180, 1_200, 21_600])
})

test('the time left that a job estimates does not stand beside the estimate of the page', () => {
  expect(withoutTimeLeft('calibrating legal, block 14 of 30, about 328 s left')).toBe(
    'calibrating legal, block 14 of 30',
  )
  expect(withoutTimeLeft('evaluating, window 3 of 9')).toBe('evaluating, window 3 of 9')
})

test('the time left that a job estimates is told as the page tells its own', () => {
  expect(spaced(withTimeLeft('calibrating legal, block 14 of 30, about 328 s left'))).toBe(
    'calibrating legal, block 14 of 30, about 5 min left',
  )
  expect(withTimeLeft('evaluating, window 3 of 9')).toBe('evaluating, window 3 of 9')
})

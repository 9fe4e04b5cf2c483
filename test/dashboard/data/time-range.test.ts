import { expect, test } from 'vitest'
import { rangeOf, rangeStart } from '../../../gateway/dashboard/src/data/time-range.ts'

test('an unknown span is a day', () => {
  expect([rangeOf(null), rangeOf('7d'), rangeOf('toString')]).toEqual(['24h', '7d', '24h'])
})

test('the start of a span stays the same for five minutes, or for an hour', () => {
  const at = Date.parse('2026-11-28T12:34:56Z')
  expect(rangeStart('24h', at)).toBe('2026-11-27T12:30:00.000Z')
  expect(rangeStart('24h', at + 3_000)).toBe(rangeStart('24h', at))
  expect(rangeStart('7d', at)).toBe('2026-11-21T12:00:00.000Z')
})

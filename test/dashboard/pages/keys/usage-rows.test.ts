import { expect, test } from 'vitest'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import {
  daysOf,
  tokensByDay,
  tokensOfMonth,
  USAGE_DAYS,
  usageRows,
} from '../../../../gateway/dashboard/src/pages/keys/usage-rows.ts'

const usageOf = (key: string, tokens: number[]) => ({
  key,
  name: key,
  tenant: 'default',
  prefix: 'ck_',
  revoked: false,
  tokens,
  total: tokens.reduce((sum, count) => sum + count, 0),
})
const report = {
  from: '2026-10-30',
  days: 4,
  data: [usageOf('a', [1, 2, 4, 8]), usageOf('b', [0, 0, 0, 90])],
}

test('the month of now counts, in UTC, and days of the month before do not', () => {
  expect(tokensOfMonth([1, 2, 4, 8], '2026-10-30', Date.parse('2026-11-02T12:00:00Z'))).toBe(12)
  expect(tokensOfMonth([1, 2, 4, 8], '2026-10-30', Date.parse('2026-10-31T23:59:59Z'))).toBe(15)
})

test('on the last day of the longest month, the days that are shown begin with its first', () => {
  const nowMs = Date.parse('2026-10-31T12:00:00Z')
  const from = new Date(nowMs - (USAGE_DAYS - 1) * 86_400_000).toISOString().slice(0, 10)
  const tokens = Array.from({ length: USAGE_DAYS }, () => 1)
  expect(tokensOfMonth(tokens, from, nowMs)).toBe(31)
})

test('usage stands beside the limit of its key, most tokens first', () => {
  const key = { id: 'b', limits: { tokens_per_month: 100 } } as KeyEntry
  const rows = usageRows(report, [key], Date.parse('2026-11-02T12:00:00Z'))
  expect(rows.map(({ key: id, month, share }) => [id, month, share])).toEqual([
    ['b', 90, 0.9],
    ['a', 12, null],
  ])
})

test('days are named and summed oldest first', () => {
  expect(daysOf(report)).toEqual(['2026-10-30', '2026-10-31', '2026-11-01', '2026-11-02'])
  expect(tokensByDay(report)).toEqual([1, 2, 4, 98])
})

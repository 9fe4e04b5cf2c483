import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import {
  rangesSince,
  sumTokensByDomain,
  sumVersionsSince,
} from '../../../../../gateway/src/storage/db/queries/period-queries.ts'
import { insertReceipts } from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { receiptOf } from '../../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
const [MINUTE_MS, HOUR_MS, DAY_MS] = [60_000, 3_600_000, 86_400_000]
const NOW_MS = Date.UTC(2026, 10, 28, 19, 30, 20)

describe('sums since a time', () => {
  test.each([
    ['seconds', 5_000],
    ['minutes', 50 * MINUTE_MS],
    ['hours', 20 * HOUR_MS],
    ['days', 5 * DAY_MS],
    ['a month', 30 * DAY_MS],
    ['months', 100 * DAY_MS],
  ])('of %s ago take each period once, without a gap', (_name, ageMs) => {
    const ranges = rangesSince(NOW_MS - ageMs, NOW_MS).filter(({ from, until }) => from < until)
    expect(ranges[0]?.from).toBeLessThanOrEqual((NOW_MS - ageMs) / 1000)
    expect(ranges.at(-1)?.until).toBeGreaterThan(NOW_MS / 1000)
    for (const [index, { width, from, until }] of ranges.entries()) {
      expect([from % width, until % width]).toEqual([0, 0])
      expect(ranges[index - 1]?.until ?? from).toBe(from)
    }
    expect(ranges.reduce((sum, { width, from, until }) => sum + (until - from) / width, 0)).toBeLessThan(200)
  })

  test('add up the requests, whichever widths they are read from', async () => {
    const model = 'since'
    const ages = [0, 5 * MINUTE_MS, 70 * MINUTE_MS, 20 * HOUR_MS, 4 * DAY_MS, 29 * DAY_MS, 90 * DAY_MS]
    for (const [index, ageMs] of ages.toReversed().entries())
      await insertReceipts(db, 'node-1', [receiptOf(`since-${index}`, { model })], 'node', NOW_MS - ageMs)
    for (const [index, ageMs] of ages.entries()) {
      const since = { fromMs: NOW_MS - ageMs, nowMs: NOW_MS }
      expect(await sumTokensByDomain(db, model, since)).toEqual(new Map([['default', 15 * (index + 1)]]))
    }
  })

  test('of mask versions give means of times, and count failed attempts that were retried', async () => {
    const model = 'versions'
    const settle = (id: string, changes: object) =>
      insertReceipts(
        db,
        'node-1',
        [{ ...receiptOf(`versions-${id}`, { model }), ...changes }],
        'node',
        NOW_MS,
      )
    await settle('a', { timeToFirstTokenMs: 10, totalMs: 100 })
    await settle('b', { timeToFirstTokenMs: null, totalMs: 300, finishReason: 'error' })
    await settle('c', { finishReason: 'superseded' })
    await settle('d', { maskVersion: 1, drift: { tokens: 4, nllMasked: 8, nllDense: 6 } })
    expect(await sumVersionsSince(db, model, { fromMs: NOW_MS, nowMs: NOW_MS })).toEqual([
      {
        maskVersion: 0,
        requests: 3,
        failed: 2,
        promptTokens: 20,
        completionTokens: 10,
        timeToFirstTokenMs: 10,
        totalMs: 200,
        driftTokens: 0,
        nllMasked: 0,
        nllDense: 0,
      },
      expect.objectContaining({ maskVersion: 1, requests: 1, driftTokens: 4, nllMasked: 8, nllDense: 6 }),
    ])
  })
})

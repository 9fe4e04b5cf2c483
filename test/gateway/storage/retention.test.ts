import { env } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { DAY_MS } from '@copal/shared/day.ts'
import { SERIES_WIDTHS } from '@copal/shared/wire/admin-series.ts'
import { UNCOUNTED } from '../../../gateway/src/calls/call-budget.ts'
import { DEFAULT_POLICY } from '../../../gateway/src/fleet/object/policy-variables.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import {
  deleteReceipts,
  findReceiptTime,
  insertReceipts,
} from '../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { periodDomains, trafficPeriods } from '../../../gateway/src/storage/db/schema/periods.ts'
import { receipts, requestDomains, shadowScores } from '../../../gateway/src/storage/db/schema/usage.ts'
import {
  deleteOldPeriods,
  deleteOldReceipts,
  deleteOldScores,
} from '../../../gateway/src/storage/retention.ts'
import { receiptOf } from '../support/requests/gateway-requests.ts'
import { sumUsage } from '../support/state/usage-sums.ts'

const db = openDatabase(env.DB)
const NOW_MS = Date.UTC(2026, 10, 28, 19, 30)

test('receipts are deleted in the order in which they were stored, past one that was replaced later', async () => {
  const settle = (id: string, atMs: number, origin: 'node' | 'estimate' = 'node') =>
    insertReceipts(db, 'node-1', [receiptOf(`order-${id}`)], origin, atMs)
  await settle('old-1', 1)
  await settle('replaced', 2, 'estimate')
  await settle('old-2', 3)
  await settle('new-1', 100)
  await settle('replaced', 101)
  await settle('new-2', 102)
  const first = await deleteReceipts(db, { beforeMs: 100, after: 0, limit: 2 })
  expect(first).toMatchObject({ examined: 2, deleted: 1 })
  const second = await deleteReceipts(db, { beforeMs: 100, after: first.last, limit: 2 })
  expect(second).toMatchObject({ examined: 2, deleted: 1 })
  expect(await deleteReceipts(db, { beforeMs: 100, after: second.last, limit: 2 })).toMatchObject({
    examined: 1,
    deleted: 0,
  })
  const left = await db.select({ id: receipts.requestId }).from(receipts)
  expect(left.map(({ id }) => id).sort()).toEqual(['order-new-1', 'order-new-2', 'order-replaced'])
})

test('a receipt that was deleted does not count again, but those of later requests and of kept estimates do', async () => {
  const model = 'horizon'
  const settle = (id: string, atMs: number, attestedAtMs?: number, origin: 'node' | 'estimate' = 'node') =>
    insertReceipts(db, 'node-1', [{ ...receiptOf(`horizon-${id}`, { model }), attestedAtMs }], origin, atMs)
  const requests = async () =>
    (await sumUsage(db)).filter((row) => row.model === model).reduce((sum, row) => sum + row.requests, 0)
  await settle('deleted', 1_000, 900)
  await settle('estimated', 2_500, undefined, 'estimate')
  const deps = {
    calls: UNCOUNTED,
    db,
    receiptDays: 0,
    maxReceipts: 0,
    policy: DEFAULT_POLICY,
    nowMs: () => 2_000 + DAY_MS,
  }
  await deleteOldReceipts(deps)
  expect(await settle('deleted', 2_600, 900)).toBe(0)
  await deleteOldReceipts({ ...deps, receiptDays: 1 })
  const left = await db.select().from(receipts).where(eq(receipts.model, model))
  expect(left.map(({ requestId }) => requestId)).toEqual(['horizon-estimated'])
  expect(await settle('deleted', 3_000, 900)).toBe(0)
  expect(await settle('never seen, but its lease was estimated', 3_000, 1_999)).toBe(0)
  expect(await settle('estimated', 3_000, 900)).toBe(1)
  expect(await settle('later', 3_000, 2_000)).toBe(1)
  expect(await settle('of an unknown time', 3_000)).toBe(1)
  expect(await requests()).toBe(4)
  // The horizon never moves back, so no deleted receipt is counted again.
  await deleteOldReceipts({ ...deps, receiptDays: 1, nowMs: () => 1_500 + DAY_MS })
  expect(await settle('deleted', 3_000, 900)).toBe(0)
})

test('the oldest of too many receipts are those that were stored before a number of others', async () => {
  await db.delete(receipts)
  for (const atMs of [10, 20, 30, 40])
    await insertReceipts(db, 'node-1', [receiptOf(`many-${atMs}`)], 'node', atMs)
  expect(await findReceiptTime(db, 4)).toBeUndefined()
  expect(await findReceiptTime(db, 2)).toBe(20)
  const deps = { calls: UNCOUNTED, db, receiptDays: 0, maxReceipts: 2, policy: DEFAULT_POLICY }
  const left = async () => (await db.select().from(receipts)).map(({ createdAt }) => createdAt)
  const beganAtMs = 15
  // A response that began then may still go on, so its receipt must not count as one that was counted before.
  await deleteOldReceipts({ ...deps, nowMs: () => beganAtMs + DEFAULT_POLICY.totalMs })
  expect(await left()).toEqual([10, 20, 30, 40])
  await deleteOldReceipts({ ...deps, nowMs: () => DAY_MS })
  expect(await left()).toEqual([20, 30, 40])
})

test('periods are kept as long as their width says, and a domain without any loses its name', async () => {
  const ages = [1, 3, 61, 731]
  for (const days of ages.toReversed()) {
    const changes = { model: 'aged', domain: days > 730 ? 'gone' : 'stays' }
    await insertReceipts(db, 'node-1', [receiptOf(`aged-${days}`, changes)], 'node', NOW_MS - days * DAY_MS)
  }
  const deps = { calls: UNCOUNTED, db, nowMs: () => NOW_MS, seriesDays: { minutes: 2, hours: 60, days: 730 } }
  await deleteOldPeriods({ ...deps, seriesDays: { minutes: 0, hours: 0, days: 0 } })
  const agesOf = async (width: number) => {
    const rows = await db.select().from(trafficPeriods).where(eq(trafficPeriods.model, 'aged'))
    return rows
      .filter((row) => row.width === width)
      .map(({ start }) => Math.floor((NOW_MS / 1000 - start) / 86_400))
      .sort((a, b) => a - b)
  }
  const names = async () => {
    const rows = await db.select().from(periodDomains).where(eq(periodDomains.model, 'aged'))
    return rows.map(({ domain }) => domain).sort()
  }
  expect(await Promise.all(SERIES_WIDTHS.map(agesOf))).toEqual([ages, ages, ages, ages])
  expect(await names()).toEqual(['gone', 'stays'])
  await deleteOldPeriods(deps)
  expect(await Promise.all(SERIES_WIDTHS.map(agesOf))).toEqual([[1], [1], [1, 3], [1, 3, 61]])
  expect(await names()).toEqual(['stays'])
})

test('scores and found domains are deleted in pieces, and of too many scores the oldest', async () => {
  const insert = (count: number, from: number) =>
    env.DB.prepare(
      `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ${count})
        insert into shadow_scores (request_id, shadow_version, model, domain, mask_version, prompt_tokens, prompt_nll,
          prompt_nll_shadow, answer_tokens, answer_nll, answer_nll_shadow, created_at)
        select 'score-' || (${from} + n), 1, 'm', 'd', 0, 1, 1, 1, 0, 0, 0, ${from} + n from numbers`,
    ).run()
  const times = async () => (await db.select().from(shadowScores)).map(({ createdAt }) => createdAt)
  await insert(4_500, 1)
  await insert(4, NOW_MS)
  await env.DB.exec(`insert into request_domains select request_id, domain, created_at from shadow_scores`)
  const deps = { db, nowMs: () => NOW_MS }
  const run = (calls: number, maxScores?: number) =>
    deleteOldScores({ ...deps, calls: bounded(calls) }, maxScores)
  /** A budget that does not count, and ends after some looks at it. */
  const bounded = (looks: number) => ({
    ...UNCOUNTED,
    get left() {
      return looks-- > 0 ? Infinity : 0
    },
  })
  await run(1)
  expect(await times()).toHaveLength(2_504)
  await run(10)
  expect(await times()).toEqual([1, 2, 3, 4].map((n) => NOW_MS + n))
  expect(await db.$count(requestDomains)).toBe(4)
  await run(10, 2)
  expect(await times()).toEqual([2, 3, 4].map((n) => NOW_MS + n))
})

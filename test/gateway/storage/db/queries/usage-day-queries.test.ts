import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { DAY_MS } from '@copal/shared/day.ts'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import {
  deleteReceipts,
  insertReceipts,
  type StoredReceipt,
} from '../../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import {
  deleteUsageDays,
  sumChargedTokens,
} from '../../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import { deleteOldUsageDays } from '../../../../../gateway/src/storage/retention.ts'
import { usageDays } from '../../../../../gateway/src/storage/db/schema/usage.ts'
import { createKey, receiptOf } from '../../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
/** The first day of a month. */
const MONTH_MS = Date.UTC(2026, 10, 1)

/** Stores receipts of a new key, by default of 15 tokens each. */
async function keyOf(tenant: string) {
  const { id } = await createKey({ tenant })
  let last = 0
  return {
    id,
    settle: (atMs: number, changes: Partial<StoredReceipt> = {}, origin: 'node' | 'estimate' = 'node') =>
      insertReceipts(
        db,
        'node-1',
        [{ ...receiptOf(`days-${id}-${(last += 1)}`, { account: id }), ...changes }],
        origin,
        atMs,
      ),
    /** Returns the tokens of the month until a time. */
    used: (beforeMs: number) =>
      sumChargedTokens(db, { kind: 'key', name: id }, { fromMs: MONTH_MS, beforeMs }),
  }
}

test('a month is the sum of its days and of the last day so far, to the millisecond', async () => {
  const key = await keyOf('by-day')
  const other = await keyOf('by-day')
  const noonMs = MONTH_MS + 20 * DAY_MS + DAY_MS / 2
  await key.settle(MONTH_MS - 1, { promptTokens: 1_000 })
  await key.settle(MONTH_MS)
  await key.settle(MONTH_MS + DAY_MS)
  await key.settle(noonMs - 1)
  await key.settle(noonMs, { promptTokens: 1_000 })
  await key.settle(MONTH_MS + DAY_MS, { finishReason: 'superseded' })
  await other.settle(MONTH_MS + DAY_MS)
  expect(await key.used(noonMs)).toBe(45)
  expect(await key.used(MONTH_MS)).toBe(0)
  expect(await key.used(MONTH_MS + 1)).toBe(15)
  const tenant = { kind: 'tenant', name: 'by-day' } as const
  expect(await sumChargedTokens(db, tenant, { fromMs: MONTH_MS, beforeMs: noonMs })).toBe(60)
})

test('a month keeps its sum when receipts of earlier days are deleted', async () => {
  const key = await keyOf('deleted')
  const nowMs = MONTH_MS + 20 * DAY_MS + 1
  for (const day of [0, 3, 3, 19, 20]) await key.settle(MONTH_MS + day * DAY_MS)
  expect(await key.used(nowMs)).toBe(75)
  await deleteReceipts(db, { beforeMs: MONTH_MS + 20 * DAY_MS, after: 0, limit: 1_000 })
  expect(await key.used(nowMs)).toBe(75)
})

test('a repeated receipt counts once, and one that replaces an estimate counts on its own day', async () => {
  const key = await keyOf('estimated')
  const requestId = 'days-estimated-late'
  await key.settle(MONTH_MS, { requestId, completionTokens: 0 }, 'estimate')
  expect(await key.used(MONTH_MS + DAY_MS)).toBe(10)
  await key.settle(MONTH_MS + 5 * DAY_MS, { requestId })
  await key.settle(MONTH_MS + 6 * DAY_MS, { requestId })
  await key.settle(MONTH_MS + 7 * DAY_MS, { requestId }, 'estimate')
  expect(await key.used(MONTH_MS + DAY_MS)).toBe(0)
  expect(await key.used(MONTH_MS + 9 * DAY_MS)).toBe(15)
  const again = { ...receiptOf('days-in-one-batch', { account: key.id }) }
  await insertReceipts(db, 'node-1', [again, { ...again, promptTokens: 1_000 }], 'node', MONTH_MS)
  expect(await key.used(MONTH_MS + 9 * DAY_MS)).toBe(30)
})

test('days of the month before last are deleted', async () => {
  await deleteUsageDays(db, Number.MAX_SAFE_INTEGER)
  const key = await keyOf('old')
  for (const day of [-63, -62, 0]) await key.settle(MONTH_MS + day * DAY_MS)
  await deleteOldUsageDays({ db, nowMs: () => MONTH_MS })
  expect((await db.select().from(usageDays)).map(({ day }) => day - MONTH_MS / DAY_MS)).toEqual([-62, 0])
})

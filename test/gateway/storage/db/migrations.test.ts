import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { DAY_MS } from '../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import { usageDays } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { createKey, receiptOf } from '../../support/requests/gateway-requests.ts'

test("0010 sums this month's receipts by key and day as new receipts are summed", async () => {
  const db = openDatabase(env.DB)
  const nowMs = Date.now()
  const now = new Date(nowMs)
  const monthMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth())
  const [one, another] = await Promise.all([createKey({}), createKey({})])
  const settle = (account: { id: string }, name: string, atMs: number, changes: object = {}) => {
    const receipt = { ...receiptOf(`backfill-${name}`, { account: account.id }), ...changes }
    return insertReceipts(db, 'node-1', [receipt], 'node', atMs)
  }
  await settle(one, 'of-the-month-before', monthMs - 1)
  await settle(one, 'first', monthMs)
  await settle(one, 'second', monthMs + 1)
  await settle(one, 'tried-again', monthMs + 1, { finishReason: 'superseded' })
  await settle(another, 'of-another-key', monthMs)
  const days = async () =>
    (await db.select().from(usageDays).orderBy(usageDays.tokens)).filter(({ day }) => day >= monthMs / DAY_MS)
  const counted = await days()
  expect(counted).toMatchObject([
    { keyId: another.id, tokens: 15 },
    { keyId: one.id, tokens: 30 },
  ])

  await env.DB.exec('DROP TABLE usage_days')
  const migration = env.TEST_MIGRATIONS.find(({ name }) => name.startsWith('0010'))
  for (const query of migration?.queries ?? []) await env.DB.prepare(query).run()
  expect(await days()).toEqual(counted)
})

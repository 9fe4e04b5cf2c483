import { applyD1Migrations } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { DAY_MS } from '@copal/shared/day.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertDecision } from '../../../../gateway/src/storage/db/queries/decision-queries.ts'
import { listMetricCounts } from '../../../../gateway/src/storage/db/queries/metric-count-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { countUpdatesOf } from '../../../../gateway/src/storage/db/queries/trigger-queries.ts'
import {
  changeUpdate,
  findUpdate,
  type UpdateRow,
} from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { models, policies as policiesTable } from '../../../../gateway/src/storage/db/schema/masks.ts'
import { usageDays } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { seedUpdate } from '../../support/state/seed-masks.ts'
import { createKey, receiptOf } from '../../support/requests/gateway-requests.ts'

test('the database that tests begin with is the one that the migrations make', async () => {
  const contents = async () => {
    const { results: schema } = await env.DB.prepare(
      "select type, name, tbl_name, sql from sqlite_master where name not like '\\_cf%' escape '\\' and name not like 'sqlite%' order by type, name",
    ).all<{ type: string; name: string; sql: string }>()
    const tables = schema.filter(({ type, name }) => type === 'table' && name !== 'd1_migrations')
    const counts = await env.DB.batch<{ rows: number }>(
      tables.map(({ name }) => env.DB.prepare(`select count(*) as rows from "${name}"`)),
    )
    const rows = tables.map(({ name }, at) => [name, counts[at]?.results[0]?.rows])
    return { schema: schema.filter(({ name }) => name !== 'd1_migrations'), tables, rows }
  }
  const made = await contents()
  await env.DB.batch(
    [...made.tables.map(({ name }) => name), 'd1_migrations'].map((name) =>
      env.DB.prepare(`drop table "${name}"`),
    ),
  )
  await applyD1Migrations(env.DB, env.TEST_MIGRATIONS)
  const { schema, rows } = await contents()
  expect(made.schema).toEqual(schema)
  expect(made.rows).toEqual(rows)
})

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

test('0028 counts the decisions of before, and counts go on with new ones and when old ones are deleted', async () => {
  const db = openDatabase(env.DB)
  const decision = { model: 'counted', verdict: 'passed', reason: '', actor: 'copal', createdAt: 1 } as const
  for (const kind of ['gate', 'gate', 'canary'] as const) await insertDecision(db, { ...decision, kind })
  await env.DB.exec('DELETE FROM metric_counts')
  await env.DB.exec('DROP TRIGGER count_decisions')
  await env.DB.exec('DROP INDEX usage_totals_mask')
  const migration = env.TEST_MIGRATIONS.find(({ name }) => name.startsWith('0028'))
  for (const query of migration?.queries ?? []) await env.DB.prepare(query).run()
  await insertDecision(db, { ...decision, kind: 'gate' })
  await env.DB.exec('DELETE FROM decisions')
  await insertDecision(db, { ...decision, kind: 'watch' })
  const counts = (await listMetricCounts(db)).map(({ metric, labels, value }) => [metric, ...labels, value])
  expect(counts).toEqual([
    ['decisions', 'counted', 'canary', 'passed', 1],
    ['decisions', 'counted', 'gate', 'passed', 3],
    ['decisions', 'counted', 'watch', 'passed', 1],
  ])
})

test('0032 lowers the shares of canaries that would answer all conversations', async () => {
  const db = openDatabase(env.DB)
  const policies = { all: { canary: { share: 1 } }, half: { canary: { share: 0.5 } }, none: { watch: {} } }
  const trial = { version: 1, beside: 0, sinceMs: 0, share: 1 }
  for (const [model, policy] of Object.entries(policies))
    await db.batch([
      db.insert(policiesTable).values({ model, policy, updatedAt: 1 }),
      db.insert(models).values({
        id: model,
        baseSha256: '',
        contextLength: 1,
        parameters: 1,
        createdAt: 1,
        canary: model === 'none' ? null : { ...trial, ...policies[model as 'all' | 'half'].canary },
      }),
    ])
  const migration = env.TEST_MIGRATIONS.find(({ name }) => name.startsWith('0032'))
  const byHand = migration?.queries.filter((query) => query.includes('UPDATE `')) ?? []
  for (const query of byHand) await env.DB.prepare(query).run()
  const stored = await db.select().from(policiesTable)
  expect(Object.fromEntries(stored.map(({ model, policy }) => [model, policy]))).toEqual({
    ...policies,
    all: { canary: { share: 0.9 } },
  })
  const shares = (await db.select().from(models)).map(({ id, canary, revision }) => [id, canary, revision])
  expect(shares).toEqual([
    ['all', { ...trial, share: 0.9 }, 1],
    ['half', { ...trial, share: 0.5 }, 0],
    ['none', null, 0],
  ])
})

test('0037 counts the updates of before, and counts follow new ones, their states and deletions', async () => {
  const seed = async (version: number, state: UpdateRow['state']) =>
    seedUpdate('counted', version, { state, finishedAt: 1 })
  await seed(1, 'promoted')
  await seed(2, 'failed')
  await env.DB.exec('DELETE FROM metric_counts')
  for (const name of ['created', 'changed', 'deleted'])
    await env.DB.exec(`DROP TRIGGER count_updates_${name}`)
  const migration = env.TEST_MIGRATIONS.find(({ name }) => name.startsWith('0037'))
  for (const query of migration?.queries ?? []) await env.DB.prepare(query).run()
  const third = await seed(3, 'collecting')
  const db = openDatabase(env.DB)
  const update = await findUpdate(db, third)
  if (!update) throw new Error('the update is missing')
  const changed = await changeUpdate(db, update, { state: 'promoted' })
  expect(changed).toEqual({ ...update, state: 'promoted', revision: 1 })
  expect(await changeUpdate(db, { ...update, revision: 1 }, { finishedAt: 2 })).toBeDefined()
  // Another isolate was first.
  expect(await changeUpdate(db, update, { state: 'failed' })).toBeUndefined()
  await env.DB.exec(`DELETE FROM updates WHERE state = 'failed'`)
  const counts = (await listMetricCounts(db)).map(({ metric, labels, value }) => [metric, ...labels, value])
  expect(counts.filter((row) => row.at(-1) !== 0)).toEqual([['updates', 'counted', 'promoted', 2]])
  expect(await countUpdatesOf(db, 'counted')).toBe(2)
  expect(await countUpdatesOf(db, 'another')).toBe(0)
})

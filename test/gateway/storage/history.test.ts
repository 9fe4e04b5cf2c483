/** Tests which old records of updates, and which keys, are deleted, and which stay because something needs them. */
import { env } from 'cloudflare:workers'
import { eq } from 'drizzle-orm'
import { expect, test } from 'vitest'
import { deleteOldHistory } from '../../../gateway/src/storage/history.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { insertDecision } from '../../../gateway/src/storage/db/queries/decision-queries.ts'
import { recordEvaluations } from '../../../gateway/src/storage/db/queries/evaluation-queries.ts'
import { HISTORY_RECORDS } from '../../../gateway/src/storage/db/queries/history-queries.ts'
import { listMetricCounts } from '../../../gateway/src/storage/db/queries/metric-count-queries.ts'
import { holdouts } from '../../../gateway/src/storage/db/schema/domains.ts'
import { apiKeys } from '../../../gateway/src/storage/db/schema/keys.ts'
import { decisions, evaluations, masks, models } from '../../../gateway/src/storage/db/schema/masks.ts'
import { batches, jobs, updates } from '../../../gateway/src/storage/db/schema/updates.ts'
import { usageDays, usageTotals } from '../../../gateway/src/storage/db/schema/usage.ts'
import { insertReceipts } from '../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { testDeps } from '../support/doubles/simulated-node.ts'
import { createKey, receiptOf, sendHeartbeat } from '../support/requests/gateway-requests.ts'
import { seedMasks, seedUpdate } from '../support/state/seed-masks.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const TICK_MS = 5 * 60_000
const db = openDatabase(env.DB)
const nowMs = Date.now()
const oldMs = nowMs - 400 * DAY_MS
const recentMs = nowMs - 300 * DAY_MS

/** Runs the cron task until each kind of records has had two turns. */
async function deleteHistory(historyDays = 365): Promise<void> {
  for (let tick = 0; tick < 2 * HISTORY_RECORDS.length; tick += 1)
    await deleteOldHistory(testDeps({ historyDays, nowMs: () => nowMs + tick * TICK_MS }))
}

async function deletedRecords(): Promise<Record<string, number>> {
  const counts = (await listMetricCounts(db)).filter(({ metric }) => metric === 'recordsDeleted')
  return Object.fromEntries(counts.map(({ labels, value }) => [labels.join(), value]))
}

/** Seeds a model whose masks 1 to 8 served, the last of them now, and whose masks 9 to 12 never did. */
async function seedModel(model: string): Promise<void> {
  await sendHeartbeat({ id: `node-${model}`, url: 'http://127.0.0.1:1' }, model)
  const served = [1, 2, 3, 4, 5, 6, 7, 8]
  await seedMasks(model, [...served, 9, 10, 11, 12], { active: null, promoted: served })
  const change = (version: number, changes: Partial<typeof masks.$inferInsert>) =>
    db.update(masks).set(changes).where(eq(masks.version, version))
  for (const version of [...served, 9, 10, 11, 12]) await change(version, { createdAt: oldMs })
  for (const version of served) await change(version, { promotedAt: oldMs + version })
  for (const version of [1, 2, 3, 9, 12]) await change(version, { sweptAt: oldMs })
  await change(10, { pinned: true })
  await db.update(models).set({ activeVersion: 8, previousVersion: 7 }).where(eq(models.id, model))
}

test('records of old updates are deleted unless a mask, a gate, a roll-back or a batch of texts needs them', async () => {
  const model = 'history'
  await seedModel(model)
  const ended = { state: 'failed', createdAt: oldMs, finishedAt: oldMs } as const
  for (const version of [1, 9, 10]) await seedUpdate(model, version, ended)
  await seedUpdate(model, 50, ended)
  await seedUpdate(model, 51, ended)
  await seedUpdate(model, 52, { ...ended, finishedAt: recentMs })
  const ofUpdate = (version: number) => `${model}-update-${version}`
  await db.insert(batches).values({
    model,
    datasetSha256: 'd',
    updateId: ofUpdate(51),
    domain: 'code',
    state: 'counted',
    createdAt: oldMs,
  })
  for (const version of [1, 50, 52])
    await env.DB.prepare(
      `insert into jobs (id, update_id, model, kind, payload, state, created_at) values (?, ?, ?, 'evaluate', '{}', 'done', 1)`,
    )
      .bind(`job-${version}`, ofUpdate(version), model)
      .run()

  const holdout = { domain: 'code', samples: 1, characters: 1, createdAt: oldMs }
  await db.insert(holdouts).values([
    { ...holdout, version: 1, sha256: 'earlier' },
    { ...holdout, version: 2, sha256: 'current' },
  ])
  const loss = {
    model,
    domain: 'code',
    tokens: 1,
    nllMean: 1,
    windowNll: null,
    numerics: null,
    createdAt: oldMs,
  }
  await recordEvaluations(db, [
    ...[0, 1, 8, 9, 10].map((version) => ({ ...loss, version, holdoutSha256: 'current' })),
    ...[0, 8].map((version) => ({ ...loss, version, holdoutSha256: 'earlier' })),
    { ...loss, version: 7, holdoutSha256: 'earlier', createdAt: recentMs },
  ])
  const gate = {
    model,
    kind: 'gate',
    verdict: 'passed',
    reason: '',
    actor: 'copal',
    createdAt: oldMs,
  } as const
  for (const maskVersion of [null, 1, 8, 9, 10]) await insertDecision(db, { ...gate, maskVersion })
  await insertDecision(db, { ...gate, maskVersion: 1, createdAt: recentMs })
  const sums = { requests: 1, promptTokens: 1, completionTokens: 1, driftRequests: 0, driftTokens: 0 }
  const usage = {
    tenant: '',
    model,
    domain: 'code',
    finishReason: 'stop',
    ...sums,
    nllMasked: 0,
    nllDense: 0,
  } as const
  await db.insert(usageTotals).values([0, 1, 4, 8, 9, 10].map((maskVersion) => ({ ...usage, maskVersion })))

  const left = async () => ({
    masks: (await db.select().from(masks).where(eq(masks.model, model))).map(({ version }) => version),
    updates: (await db.select().from(updates).where(eq(updates.model, model))).map(
      ({ maskVersion }) => maskVersion,
    ),
    jobs: (await db.select().from(jobs).where(eq(jobs.model, model))).map(({ id }) => id),
    losses: (await db.select().from(evaluations)).map((row) => `m${row.version} ${row.holdoutSha256}`).sort(),
    decisions: (await db.select().from(decisions).where(eq(decisions.model, model))).map(
      (row) => row.maskVersion,
    ),
    usage: (await db.select().from(usageTotals).where(eq(usageTotals.model, model))).map(
      (row) => row.maskVersion,
    ),
  })
  const before = await left()
  await deleteHistory(0)
  await deleteHistory(401)
  expect(await left()).toEqual(before)

  await deleteHistory()
  expect(await left()).toEqual({
    // The file of m11 is stored, m10 is pinned, and no mask may get the number of the newest again.
    masks: [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12],
    updates: [1, 10, 51, 52],
    jobs: ['job-52'],
    losses: ['m0 current', 'm1 current', 'm10 current', 'm7 earlier', 'm8 current'],
    decisions: [8, 10, 1],
    usage: [0, 4, 8, 10],
  })
  expect(await deletedRecords()).toEqual({
    job: 2,
    decision: 3,
    usage_total: 2,
    mask: 1,
    evaluation: 3,
    update: 2,
  })
  const counted = (await listMetricCounts(db)).find(({ metric }) => metric === 'decisions')
  expect(counted).toMatchObject({ labels: [model, 'gate', 'passed'], value: 6 })
})

test('a revoked key is deleted when no receipt and no day of usage is charged to it any more', async () => {
  const revoked = { revokedAt: oldMs }
  const [gone, charged, used, recent, active] = await Promise.all([
    createKey(revoked),
    createKey(revoked),
    createKey(revoked),
    createKey({ revokedAt: recentMs }),
    createKey({}),
  ])
  await insertReceipts(db, 'node', [receiptOf('charged', { account: charged.id })], 'node', oldMs)
  await db.delete(usageDays)
  await db.insert(usageDays).values({ keyId: used.id, day: 1, tokens: 1 })
  await deleteHistory()
  const left = (await db.select().from(apiKeys)).map(({ id }) => id)
  expect(left.sort()).toEqual([charged, used, recent, active].map(({ id }) => id).sort())
  expect(left).not.toContain(gone.id)
})

test('a run deletes at most 5,000 records, and the next one of the kind goes on', async () => {
  const model = 'many-jobs'
  await seedUpdate(model, 1, { state: 'failed', createdAt: oldMs, finishedAt: oldMs })
  await env.DB.prepare(
    `with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 6000)
      insert into jobs (id, update_id, model, kind, payload, state, created_at)
      select 'many-' || n, ?, ?, 'evaluate', '{}', 'done', 1 from numbers`,
  )
    .bind(`${model}-update-1`, model)
    .run()
  const atTurn = Math.ceil(nowMs / TICK_MS / HISTORY_RECORDS.length) * HISTORY_RECORDS.length * TICK_MS
  const run = () => deleteOldHistory(testDeps({ historyDays: 365, nowMs: () => atTurn }))
  await run()
  expect(await db.$count(jobs, eq(jobs.model, model))).toBe(1_000)
  await run()
  expect(await db.$count(jobs, eq(jobs.model, model))).toBe(0)
})

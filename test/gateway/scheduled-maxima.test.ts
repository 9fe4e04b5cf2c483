/** Tests that cron events stay below the calls that Cloudflare allows, where each task has as much to do as it can have. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from 'cloudflare:test'
import { beforeAll, expect, test, vi } from 'vitest'
import { EVENT_CALLS } from '../../gateway/src/calls/call-budget.ts'
import worker from '../../gateway/src/index.ts'
import { openDatabase } from '../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../gateway/src/storage/db/queries/receipt-queries.ts'
import { putReservoirCounts } from '../../gateway/src/storage/db/queries/reservoir-count-queries.ts'
import { createKey, receiptOf } from './support/requests/gateway-requests.ts'
import { countCalls } from './support/state/counted-calls.ts'

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS
const DOMAINS = 400
const db = openDatabase(env.DB)
const counted = countCalls(env)

/** Runs a statement for each number from 1 to `count`, which it names `n`. */
async function insertMany(count: number, statement: string): Promise<void> {
  await env.DB.prepare(
    `${statement} from (with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ${count}) select n from numbers)`,
  ).run()
}

const countOf = async (what: string) =>
  (await env.DB.prepare(`select count(*) as count from ${what}`).first<{ count: number }>())?.count ?? 0

/** Runs one event, and returns its calls. */
async function runEvent(cron: string, timeMs: number): Promise<number> {
  counted.take()
  const ctx = createExecutionContext()
  await worker.scheduled(createScheduledController({ cron, scheduledTime: timeMs }), counted.bindings, ctx)
  await waitOnExecutionContext(ctx)
  return counted.take().all
}

beforeAll(async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  vi.spyOn(console, 'error').mockImplementation(() => undefined)
  await insertMany(DOMAINS, `insert into domains (name, created_at) select 'd' || n, 1`)
  const none = {
    samples: 0,
    characters: 0,
    seen: 0,
    holdoutSamples: 0,
    holdoutCharacters: 0,
    reviewSamples: 0,
  }
  const old = { ...none, lastSampleAtMs: null, models: {}, examples: {}, countedAtMs: 1 }
  await putReservoirCounts(db, new Map([['d1', old]]))
  await insertMany(
    2_000,
    `insert into audit_pending (actor, action, target, created_at, settled) select 'operator', 'GET /x', 't' || n, 1, 1`,
  )
  await insertMany(
    250,
    `insert into pending_deletions (domain, key_id, done_until, created_at) select 'd' || n, 'gone', 'samples left', 1`,
  )
  await insertMany(
    150,
    `insert into pending_deletions (domain, key_id, done_until, created_at) select 'd' || (250 + n), 'gone', '', 1`,
  )
  await createKey({ peppered: false, hash: '0'.repeat(64) })
  await insertMany(
    300,
    `insert into api_keys (id, name, hash, peppered, prefix, default_domain, sampling, created_at)
       select 'key_' || n, 'old', printf('%064d', n), 0, 'sk', 'default', 'never', 1`,
  )
  await insertMany(
    200,
    `insert into statistics (model, artifact, domain, datasets, bytes, created_at)
       select 'm', printf('%064d', n), 'd1', '["gone"]', 1, 1`,
  )
  await insertReceipts(db, 'node', [receiptOf('old')], 'node', Date.now() - 40 * DAY_MS)
  const { results } = await env.DB.prepare(`select name from pragma_table_info('receipts')`).all<{
    name: string
  }>()
  const columns = results.map(({ name }) => name)
  const copied = columns.map((name) =>
    name === 'request_id' ? `'old-' || n` : `(select ${name} from receipts limit 1)`,
  )
  await insertMany(100_000, `insert into receipts (${columns.join(', ')}) select ${copied.join(', ')}`)
}, 300_000)

test('events in which each task has all to do that it can have stay below their calls, and in the end all is done', async () => {
  // Both triggers give half of the calls to their first task, whatever the time is: 150 minutes are 15 rotations of the 10 tasks of one
  // and two of the 15 of the other.
  const start = Math.floor(Date.now() / (150 * MINUTE_MS)) * 150 * MINUTE_MS
  const calls: Record<string, number[]> = {}
  const left = async () => ({
    audit: await countOf('audit_pending'),
    deletions: await countOf('pending_deletions'),
    keys: await countOf('api_keys where peppered = 0'),
    statistics: await countOf('statistics'),
    receipts: await countOf(`receipts where request_id like 'old%'`),
    uncounted: DOMAINS - (await countOf('reservoir_counts where counted_at_ms > 1')),
  })
  const before = await left()
  expect(before).toEqual({
    audit: 2_000,
    deletions: 400,
    keys: 301,
    statistics: 200,
    receipts: 100_001,
    uncounted: DOMAINS,
  })
  for (let minute = 0; minute <= 15; minute += 1) {
    for (const cron of minute % 5 === 0 ? ['* * * * *', '*/5 * * * *'] : ['* * * * *']) {
      const all = await runEvent(cron, start + minute * MINUTE_MS)
      expect(all).toBeLessThanOrEqual(EVENT_CALLS)
      ;(calls[cron] ??= []).push(all)
    }
  }
  // Which task may use half of the calls changes from event to event, and not each has that much to do. The busiest event uses
  // more than a fixed share of each task would allow.
  for (const each of Object.values(calls)) expect(Math.max(...each)).toBeGreaterThan(0.7 * EVENT_CALLS)
  expect(await left()).toEqual({ audit: 0, deletions: 0, keys: 0, statistics: 0, receipts: 0, uncounted: 0 })
})

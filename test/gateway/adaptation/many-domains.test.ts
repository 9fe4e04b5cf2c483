/** Tests that a gateway of more than a thousand domains stays below the calls that Cloudflare allows an event. */
import { env } from 'cloudflare:workers'
import {
  createExecutionContext,
  createMessageBatch,
  createScheduledController,
  waitOnExecutionContext,
} from 'cloudflare:test'
import { beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { DomainPage } from '@copal/shared/wire/admin-domains.ts'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { createApp } from '../../../gateway/src/app.ts'
import { createDeps } from '../../../gateway/src/deps.ts'
import worker from '../../../gateway/src/index.ts'
import { createCallBudget, EVENT_CALLS } from '../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../gateway/src/calls/metered-deps.ts'
import { currentHoldouts } from '../../../gateway/src/adaptation/holdouts/current-holdouts.ts'
import { consumeSamples } from '../../../gateway/src/adaptation/intake/sample-consumer.ts'
import { trainOnExamples } from '../../../gateway/src/adaptation/intake/train-on-examples.ts'
import { refreshCounts } from '../../../gateway/src/adaptation/sampling/refresh-counts.ts'
import { SAMPLE_QUEUE } from '../../../gateway/src/adaptation/sampling/sample-queue.ts'
import { describeDue } from '../../../gateway/src/adaptation/triggers/describe-due.ts'
import { gatherPlan } from '../../../gateway/src/adaptation/triggers/gather-plan.ts'
import { planUpdate } from '../../../gateway/src/adaptation/triggers/plan-update.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { listHoldouts } from '../../../gateway/src/storage/db/queries/holdout-queries.ts'
import { findModel, type ModelRow } from '../../../gateway/src/storage/db/queries/model-queries.ts'
import { domains } from '../../../gateway/src/storage/db/schema/domains.ts'
import { startDescribingNode, textOfKind, type DescribingNode } from '../support/doubles/describing-node.ts'
import { adminJson } from '../support/doubles/simulated-node.ts'
import { offeredSample } from '../support/requests/offered-sample.ts'
import { TEST_ADMIN_KEY } from '../support/setup/secrets.ts'
import { countCalls } from '../support/state/counted-calls.ts'
import { publishCounts } from '../support/state/reservoir-state.ts'

const DOMAINS = 1_000
/** Reservoirs that a task asks at most. */
const MAX_ASKED = 64
const MINUTE = 60_000
const nameOf = (index: number) => `d${String(index).padStart(4, '0')}`
/** Spread over all domains: 40 that are due, the first of which have most text. */
const DUE = Array.from({ length: 40 }, (_, index) => nameOf(20 * index))

const db = openDatabase(env.DB)
const counted = countCalls(env)
const app = createApp()
let node: DescribingNode
let model: ModelRow

const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
const deps = (minutes = 0) => ({
  ...createDeps(counted.bindings, createExecutionContext()),
  nodeFetch: (url: URL, init: RequestInit) => node.nodeFetch(url, init as never),
  nowMs: () => Date.now() + minutes * MINUTE,
})

async function listPage(query = ''): Promise<DomainPage> {
  const headers = { authorization: `Bearer ${TEST_ADMIN_KEY}` }
  const request = new Request(`http://gateway.test/admin/domains${query}`, { headers })
  return (await app.fetch(request, counted.bindings, createExecutionContext())).json<DomainPage>()
}

/** Offers texts of about 300 characters, more to the domains that come first. */
async function fill(domain: string, index: number): Promise<void> {
  const pool = 160 - index
  const offers = Array.from({ length: pool + 40 }, (_, number) =>
    offeredSample(`${domain} ${textOfKind('law', 1_000 * index + number)}`, {
      side: number < pool ? 'pool' : 'holdout',
    }),
  )
  await reservoir(domain).offer(offers)
}

beforeAll(async () => {
  node = await startDescribingNode('many')
  model = (await findModel(db, 'many')) as ModelRow
  const names = Array.from({ length: DOMAINS }, (_, index) => nameOf(index))
  for (let first = 0; first < DOMAINS; first += 25)
    await db.insert(domains).values(names.slice(first, first + 25).map((name) => ({ name, createdAt: 1 })))
  await Promise.all(DUE.map(fill))
})

beforeEach(async () => {
  await node.heartbeat()
  counted.take()
})

test('counts of an installation from before are filled in within half an hour, and until then a list asks a few', async () => {
  const { data } = await listPage()
  expect(data).toHaveLength(DOMAINS)
  expect(data.filter(({ counted_at: at }) => at === null)).toHaveLength(DOMAINS - MAX_ASKED)
  expect(counted.take().reservoirs).toBe(MAX_ASKED)
  const { domains: planned } = planUpdate(await gatherPlan(deps(), model, PRESETS.local, { always: true }))
  const unknown = planned.filter(({ reason }) => reason === 'its texts were not counted yet')
  expect(unknown).toHaveLength(DOMAINS - 2 * MAX_ASKED)
  counted.take()
  for (let run = 0; run < 5; run++) {
    await refreshCounts(meterDeps(deps(), createCallBudget(203)))
    const { all, reservoirs } = counted.take()
    expect(all).toBeLessThanOrEqual(203)
    // Each group of 32 is stored by one statement.
    expect(all - reservoirs).toBeLessThanOrEqual(2 + 7)
  }
  const later = await listPage()
  expect(later.data.filter(({ counted_at: at }) => at === null)).toEqual([])
})

test('GET /admin/domains asks no reservoir, and pages of few domains are counted now', async () => {
  const { data, next_after: after } = await listPage('?model=many')
  expect(counted.take()).toEqual({ all: 5, reservoirs: 0 })
  expect(after).toBeNull()
  expect(data.map(({ name }) => name)).toEqual(Array.from({ length: DOMAINS }, (_, index) => nameOf(index)))
  for (const domain of [nameOf(0), nameOf(1), nameOf(300)]) {
    const { samples, characters, newSamples, seen } = await reservoir(domain).stats('many')
    expect(data.find(({ name }) => name === domain)).toMatchObject({
      samples,
      characters,
      new_samples: newSamples,
      seen,
    })
  }
  const names: string[] = []
  for (let next: string | null | undefined = ''; next !== null && next !== undefined;) {
    const page = await listPage(`?limit=500&after=${next}`)
    names.push(...page.data.map(({ name }) => name))
    next = page.next_after
  }
  expect(names).toEqual(data.map(({ name }) => name))
  counted.take()
  const page = await listPage(`?limit=50&after=${nameOf(99)}`)
  expect(page).toMatchObject({ next_after: nameOf(149) })
  expect(page.data.some(({ counted_at: at }) => at !== undefined)).toBe(false)
  expect(counted.take().reservoirs).toBe(50)
})

test('the describing task asks a few domains each minute, and each comes round', async () => {
  const undescribed = () => {
    const described = new Set(node.calls.flat().map((text) => text.split(' ', 1)[0]))
    return DUE.filter((domain) => !described.has(domain))
  }
  for (let minute = 0; minute < 50 && undescribed().length > 0; minute++) {
    await node.heartbeat()
    counted.take()
    await describeDue(meterDeps(deps(minute), createCallBudget(100)))
    expect(counted.take().all).toBeLessThanOrEqual(100)
  }
  expect(undescribed()).toEqual([])
})

test('training takes the numbers of examples from D1, and asks the domains that it learns', async () => {
  const trained: boolean[] = []
  const hasEnded = () => trained.includes(true) && !trained.slice(-2).includes(true)
  for (let run = 0; run < 10 && !hasEnded(); run++) {
    await Promise.all(DUE.map(publishCounts))
    await node.heartbeat()
    counted.take()
    trained.push(await trainOnExamples(deps(), model, { texts: 200 }, [model.baseSha256]))
    // A training reads the examples of all 40; before, it has those of 16 described that lack some.
    expect(counted.take().reservoirs).toBeLessThanOrEqual(16 * 3 + DUE.length + 1)
  }
  expect(trained).toContain(true)
  expect(trained.slice(-2)).toEqual([false, false])
})

test('a plan asks the domains that it takes, and none is taken by a wrong count in D1', async () => {
  const plan = async () => planUpdate(await gatherPlan(deps(), model, PRESETS.local, { always: true }))
  const { domains: planned, next } = await plan()
  expect(counted.take().reservoirs).toBeLessThanOrEqual(3 * MAX_ASKED)
  expect(planned).toHaveLength(DOMAINS)
  expect(
    planned
      .filter(({ due }) => due !== undefined)
      .map(({ domain }) => domain)
      .toSorted(),
  ).toEqual(DUE)
  const taken = next.map(({ domain }) => domain)
  expect(taken).toHaveLength(8)
  expect(DUE).toEqual(expect.arrayContaining(taken))
  // Counts of a lost write: 100 domains seem to have most text, and have none.
  await env.DB.exec(
    "UPDATE reservoir_counts SET samples = 2000, characters = 4000000, holdout_characters = 100000 WHERE domain LIKE '%1'",
  )
  counted.take()
  const wrong = await plan()
  expect(counted.take().reservoirs).toBeLessThanOrEqual(3 * MAX_ASKED)
  // A plan corrects what it finds, so that the next ones are right.
  expect(wrong.domains.filter(({ due }) => due !== undefined).length).toBeGreaterThan(DUE.length)
  const again = [await plan(), await plan()].at(-1)
  expect(again?.next.map(({ domain }) => domain)).toEqual(taken)
})

test('the current holdouts are those of all domains, and some of those without get one in each call', async () => {
  const named = [DUE[20] ?? '', DUE[21] ?? '']
  // By a wrong count this domain has enough held-out text for a version, and it has one text.
  await reservoir(nameOf(3)).offer([offeredSample('a single text that is held out', { side: 'holdout' })])
  await env.DB.exec(`UPDATE reservoir_counts SET holdout_characters = 100000 WHERE domain = '${nameOf(3)}'`)
  const versions = async () => (await listHoldouts(db)).map(({ domain }) => domain)
  const first = await currentHoldouts(deps(), { domains: named, traffic: new Map() }, 64)
  const { all, reservoirs } = counted.take()
  expect(reservoirs).toBe(2 * named.length + 32)
  // Six for each version: its texts, the claim of its file, the file, and three statements for its records.
  expect(all).toBeLessThan(240)
  // The wrong one took the place of another.
  expect(await versions()).toHaveLength(31 + named.length)
  expect(first.map(({ domain }) => domain).toSorted()).toEqual(await versions())
  expect(first.map(({ domain }) => domain)).toEqual(expect.arrayContaining(named))
  await currentHoldouts(deps(), { domains: named, traffic: new Map() }, 64)
  expect(await versions()).toEqual(DUE)
  await publishCounts(nameOf(3))
  counted.take()
  // Nothing is left to create.
  await currentHoldouts(deps(), { domains: named, traffic: new Map() }, 64)
  expect(counted.take().reservoirs).toBe(named.length)
})

test('a batch of samples of a hundred domains calls each reservoir once, and D1 as often as for one domain', async () => {
  const batchOf = (count: number) =>
    createMessageBatch(
      SAMPLE_QUEUE.queue,
      Array.from({ length: count }, (_, index) => ({
        id: `message ${count} ${index}`,
        timestamp: new Date(),
        attempts: 1,
        body: {
          requestId: `request ${count} ${index}`,
          keyId: 'key',
          tenant: 'tenant',
          model: 'many',
          domain: nameOf(index),
          text: `a text ${index} of ${count}`,
        },
      })),
    )
  const callsOf = async (count: number) => {
    counted.take()
    await consumeSamples(deps(), batchOf(count))
    return counted.take()
  }
  const [one, hundred] = [await callsOf(1), await callsOf(100)]
  expect(hundred.reservoirs).toBe(100)
  expect(hundred.all - hundred.reservoirs).toBe(one.all - one.reservoirs)
})

test('all tasks of a minute, and all of five minutes, stay below the calls of an event, and an update starts', async () => {
  vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  vi.spyOn(console, 'error').mockImplementation(() => undefined)
  for (const cron of ['* * * * *', '*/5 * * * *']) {
    await node.heartbeat()
    counted.take()
    const ctx = createExecutionContext()
    await worker.scheduled(createScheduledController({ cron }), counted.bindings, ctx)
    await waitOnExecutionContext(ctx)
    const { all } = counted.take()
    expect(all).toBeGreaterThan(10)
    expect(all).toBeLessThanOrEqual(EVENT_CALLS)
  }
  vi.restoreAllMocks()
  const { data } = await adminJson<{ data: UpdateEntry[] }>('GET', '/updates')
  expect(data).toMatchObject([{ model: 'many', trigger: 'volume' }])
  expect(data[0]?.domains).toHaveLength(8)
})

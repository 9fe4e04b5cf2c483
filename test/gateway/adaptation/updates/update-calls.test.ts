/** Tests that an update whose texts take more calls than an event may make is collected by several events. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { createCallBudget, EVENT_CALLS, isCallsUsedUp } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { currentHoldouts } from '../../../../gateway/src/adaptation/holdouts/current-holdouts.ts'
import { advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { listDatasetsOf } from '../../../../gateway/src/storage/db/queries/dataset-queries.ts'
import { findUpdate } from '../../../../gateway/src/storage/db/queries/update-queries.ts'
import { runUpdateWorkflow } from '../../../../gateway/src/adaptation/updates/update-workflow.ts'
import { getUpdate, importTexts, startUpdate, testDeps } from '../../support/doubles/simulated-node.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { ORIGIN, signedPost } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { countCalls } from '../../support/state/counted-calls.ts'
import { seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)
/** Batches of a version that kept no marks of texts. Each takes two calls when texts of its domain are collected. */
const BATCHES = 240

/** Creates a model with two domains, whose texts take some 1,000 calls when they are collected first. */
async function seedDomains(model: string) {
  const node = await newNode(model)
  await setPolicy(model, { influence: { outlier_deviations: null } })
  const domains = [`${model}-a`, `${model}-b`]
  for (const domain of domains) {
    await importTexts(domain)
    await env.DB.prepare(
      `insert into batches (model, dataset_sha256, update_id, domain, state, tokens, marked, created_at)
        with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < ${BATCHES})
        select ?1, ?2 || n, 'old', ?2, 'counted', 1, 0, 1 from numbers`,
    )
      .bind(`${model} of before`, domain)
      .run()
  }
  return { node, request: { model, domains, selection: {}, samples: 2, length: 64, seed: 0 } }
}

/** Creates the request for an update of a number of domains that have texts and a holdout. */
async function seedTexts(model: string, count: number) {
  await setPolicy(model, { influence: { outlier_deviations: null } })
  const domains = Array.from({ length: count }, (_, index) => `${model}-${index}`)
  // A mask is judged on enough held-out text of one domain.
  for (const [index, domain] of domains.entries()) await importTexts(domain, index === 0 ? 80 : 16)
  await currentHoldouts(testDeps(), { domains, traffic: new Map() }, 64)
  return { request: { model, domains, selection: {}, samples: 2, length: 64, seed: 0 } }
}

/** Counts the calls of D1 from now on, each of which is a round trip. */
function countRoundTrips(): () => number {
  const statement = Object.getPrototypeOf(env.DB.prepare('select 1')) as D1PreparedStatement
  const spies = [
    ...(['run', 'all', 'raw', 'first'] as const).map((method) => vi.spyOn(statement, method)),
    vi.spyOn(Object.getPrototypeOf(env.DB) as D1Database, 'batch'),
  ]
  onTestFinished(() => spies.forEach((spy) => spy.mockRestore()))
  return () => spies.reduce((sum, { mock }) => sum + mock.calls.length, 0)
}

test('a whole update of a domain takes some hundred calls of D1, and the response to the heartbeat that promotes its mask names it', async () => {
  const model = 'thrifty'
  const domain = `${model}-a`
  const node = await newNode(model)
  await importTexts(domain)
  expect((await node.finish((await startUpdate(model, [domain])).id)).state).toBe('promoted')
  await importTexts(domain, 80, 'more')
  const roundTrips = countRoundTrips()
  const { id } = await startUpdate(model, [domain])
  let ofTest = 0
  const stateOf = async () => {
    ofTest += 1
    return (await findUpdate(db, id))?.state
  }
  while ((await stateOf()) === 'collecting') await scheduler.wait(50)
  for (let turn = 0; (await stateOf()) !== 'promoting' && turn < 10; turn += 1) {
    await node.work()
    const { desired } = await node.beat()
    expect(desired.active?.version).toBe((await stateOf()) === 'promoting' ? 2 : 1)
  }
  await node.beat()
  expect(await stateOf()).toBe('promoted')
  expect(roundTrips() - ofTest).toBeLessThan(125)
})

test('an operator starts it, and heartbeats go on where the calls of the request end', async () => {
  const { node, request } = await seedDomains('started')
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => {
    warn.mockRestore()
    error.mockRestore()
  })
  const counted = countCalls({ ...env, UPDATE_WORKFLOW: { create: () => ({}) } as never })
  const ctx = createExecutionContext()
  const response = await createApp().fetch(
    new Request(`${ORIGIN}/admin/updates`, {
      method: 'POST',
      headers: { authorization: `Bearer ${TEST_ADMIN_KEY}` },
      body: JSON.stringify(request),
    }),
    counted.bindings,
    ctx,
  )
  const { id } = await response.json<UpdateEntry>()
  await waitOnExecutionContext(ctx)
  const { all } = counted.take()
  expect(all).toBeGreaterThan(EVENT_CALLS / 2)
  // The audit log and the response take a few.
  expect(all).toBeLessThan(EVENT_CALLS + 50)
  expect((await getUpdate(id)).state).toBe('collecting')
  expect(warn.mock.calls).toEqual([
    [`The start of update ${id} has used the calls of an event; a later event goes on.`],
  ])
  expect(error).not.toHaveBeenCalled()
  await node.reach(id, 'calibrating')
})

test('the Workflow collects it in two turns', async () => {
  const { request } = await seedDomains('turned')
  const { id } = await createUpdate(testDeps(), request)
  const states: string[] = []
  // In a real instance the next turn may begin before the state is read.
  const step = {
    async do(_: string, turn: () => Promise<boolean>) {
      const ended = await turn()
      states.push((await getUpdate(id)).state)
      return ended || states.length === 2
    },
    sleep: () => Promise.resolve(),
  }
  await runUpdateWorkflow({ updateId: id }, step as never, testDeps)
  expect(states).toEqual(['collecting', 'calibrating'])
})

test('texts of 64 domains are collected by one heartbeat', async () => {
  const model = 'wide'
  const node = await newNode(model)
  const { request } = await seedTexts(model, 64)
  const { domains } = request
  // It has texts to give back.
  await seedUpdate(model, 1, { state: 'failed', finishedAt: 1, createdAt: 1, domains, datasets: ['gone'] })
  const { id } = await createUpdate(testDeps(), request)
  const counted = countCalls(env)
  const ctx = createExecutionContext()
  const response = await signedPost(
    '/internal/nodes/heartbeat',
    { ...node.heartbeat() },
    // A busy machine takes longer than the response waits; the step then goes on.
    { send: (sent) => createApp().fetch(sent, counted.bindings, ctx) },
  )
  await waitOnExecutionContext(ctx)
  expect(response.status).toBe(200)
  expect((await getUpdate(id)).state).toBe('calibrating')
  // Where texts are described, each domain takes one more.
  expect(counted.take().all).toBeLessThan(0.75 * EVENT_CALLS - domains.length)
})

test('a run of the cron task goes on where the calls of the one before have ended', async () => {
  const model = 'by-turns'
  await newNode(model)
  const { request } = await seedTexts(model, 12)
  const { id } = await createUpdate(testDeps(), request)
  const frozen: number[] = []
  // The turn of the task begins it, and smaller shares go on.
  for (let run = 0; (await getUpdate(id)).state === 'collecting' && run < 10; run += 1) {
    const share = createCallBudget(run === 0 ? 50 : 25)
    const thrown = await advanceUpdates(meterDeps(testDeps(), share), model).catch((error: unknown) => error)
    expect(thrown === undefined || isCallsUsedUp(thrown)).toBe(true)
    frozen.push((await findUpdate(db, id))?.datasets?.length ?? 0)
  }
  expect((await getUpdate(id)).state).toBe('calibrating')
  expect(frozen.length).toBeGreaterThan(2)
  expect(frozen.at(-1)).toBe(request.domains.length)
  for (const [index, datasets] of frozen.entries()) expect(datasets).toBeGreaterThan(frozen[index - 1] ?? 0)
})

test('an update that fails for one domain gives back the texts that it has taken of others, and leaves no dataset', async () => {
  const model = 'halfway'
  await newNode(model)
  const { request } = await seedTexts(model, 2)
  const [first = '', second = ''] = request.domains
  const { id } = await createUpdate(testDeps(), request)
  const reservoir = (domain: string) => testDeps().reservoir(domain)
  const all = { model, maxBytes: 1e9, maxKeyShare: 1, outlierDeviations: null, updateId: 'another' }
  await reservoir(second).take(all)
  const { newSamples } = await reservoir(first).stats(model)
  // The hash of its holdout.
  const stored = await listDatasetsOf(db, first)
  const put = vi.spyOn(env.ARTIFACTS, 'put')
  onTestFinished(() => put.mockRestore())
  await advanceUpdates(testDeps(), model)
  expect(put).toHaveBeenCalledOnce()
  expect(await getUpdate(id)).toMatchObject({ state: 'failed', error: { code: 'insufficient_samples' } })
  expect((await reservoir(first).stats(model)).newSamples).toBe(newSamples)
  expect(await listDatasetsOf(db, first)).toEqual(stored)
})

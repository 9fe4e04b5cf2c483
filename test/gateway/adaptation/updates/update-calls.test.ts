/** Tests that an update whose texts take more calls than an event may make is collected by several events. */
import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { EVENT_CALLS, isCallsUsedUp, shareCalls } from '../../../../gateway/src/calls/call-budget.ts'
import { meterDeps } from '../../../../gateway/src/calls/metered-deps.ts'
import { currentHoldouts } from '../../../../gateway/src/adaptation/holdouts/current-holdouts.ts'
import { advanceUpdates } from '../../../../gateway/src/adaptation/updates/advance-update.ts'
import { createUpdate } from '../../../../gateway/src/adaptation/updates/update-requests.ts'
import { runUpdateWorkflow } from '../../../../gateway/src/adaptation/updates/update-workflow.ts'
import { getUpdate, importTexts, testDeps } from '../../support/doubles/simulated-node.ts'
import { newNode } from '../../support/doubles/whole-updates.ts'
import { ORIGIN, signedPost } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { countCalls } from '../../support/state/counted-calls.ts'
import { seedUpdate, setPolicy } from '../../support/state/seed-masks.ts'

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

test('texts of 64 domains take more calls than a cron task ever has, and one heartbeat collects them', async () => {
  const model = 'wide'
  const node = await newNode(model)
  await setPolicy(model, { influence: { outlier_deviations: null } })
  const domains = Array.from({ length: 64 }, (_, index) => `${model}-${index}`)
  for (const domain of domains) await importTexts(domain, 40)
  await currentHoldouts(testDeps(), { domains }, 64)
  // It has texts to give back.
  await seedUpdate(model, 1, { state: 'failed', finishedAt: 1, createdAt: 1, domains, datasets: ['gone'] })
  const request = { model, domains, selection: {}, samples: 2, length: 64, seed: 0 }
  const { id } = await createUpdate(testDeps(), request)
  // Each run begins with the first domain again: what is left for a run that gets further is in no row.
  for (let run = 0; run < 2; run += 1) {
    const [share] = shareCalls(10, 0)
    if (!share) throw new Error('no share')
    const thrown = await advanceUpdates(meterDeps(testDeps(), share), model).catch((error: unknown) => error)
    expect(isCallsUsedUp(thrown)).toBe(true)
  }
  expect((await getUpdate(id)).state).toBe('collecting')
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
  expect(counted.take().all).toBeLessThan(0.9 * EVENT_CALLS - domains.length)
})

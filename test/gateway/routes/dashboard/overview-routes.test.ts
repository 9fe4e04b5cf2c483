import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { overviewReport, type OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { Hono } from 'hono'
import { createApp } from '../../../../gateway/src/app.ts'
import type { ActorEnv } from '../../../../gateway/src/contracts/context.ts'
import { overviewReport as gatherOverview } from '../../../../gateway/src/dashboard/overview.ts'
import { createOverviewCache } from '../../../../gateway/src/dashboard/overview-cache.ts'
import { createKeyring } from '../../../../gateway/src/keys/keyring.ts'
import { requireActor } from '../../../../gateway/src/middleware/auth.ts'
import { overviewRoutes } from '../../../../gateway/src/routes/admin/overview-routes.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { signIn } from '../../support/requests/dashboard-session.ts'
import { errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'

/** Reads server-sent events one by one. */
function readEvents(response: Response) {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  return {
    async next(): Promise<{ event: string; data: string } | undefined> {
      while (!rest.includes('\n\n')) {
        const { value, done } = (await reader?.read()) ?? { value: undefined, done: true }
        if (done) return undefined
        rest += value ?? ''
      }
      const [block = '', ...others] = rest.split('\n\n')
      rest = others.join('\n\n')
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1] ?? ''
      return { event: field('event'), data: field('data') }
    },
    cancel: () => reader?.cancel(),
  }
}

test('the overview of a model matches its schema, and names every model', async () => {
  expect((await admin('GET', '/overview')).status).toBe(503)
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b', {
    weightSets: [{ version: 0, state: 'ready', requests: 0, bytes: 2_000 }],
  })
  await sendHeartbeat({ id: 'overview-2', url: 'http://127.0.0.1:2' }, 'overview-a')
  await seedMasks('overview-b', [1, 2])
  const report = overviewReport.parse(await adminJson('GET', '/overview?model=overview-b'))
  expect(report).toMatchObject({
    model: { id: 'overview-b', active_version: 1, dense_bytes: 2_000, weight_bytes: null, converged: false },
    models: ['overview-a', 'overview-b'],
    nodes: [{ id: 'overview-1' }],
    canary: null,
    updates: [],
    alerts: [],
  })
  // Its process no longer holds the dense weights.
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b', {
    weightSets: [{ version: 1, state: 'ready', requests: 0, bytes: 1_100 }],
  })
  const { model } = await gatherOverview(testDeps(), 'overview-b')
  expect([model.weight_bytes, model.dense_bytes]).toEqual([1_100, 2_000])
  expect(report.model.mask).toMatchObject({ version: 1, active: true })
  expect(report.traffic.tokens_trend).toHaveLength(60)
  expect(await adminJson('GET', '/overview')).toMatchObject({ model: { id: 'overview-a' } })
  const unknown = await admin('GET', '/overview?model=no')
  expect([unknown.status, (await errorOf(unknown)).code]).toEqual([404, 'model_not_found'])
})

test('streams send the overview at once and when it has changed, then a heartbeat, and end with the session', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const { id, key } = await adminJson<CreatedKey>('POST', '/keys', { name: 'screen', scopes: ['read-admin'] })
  const { cookie } = await signIn({ key })
  // The same routes and middleware, with shorter times.
  let nowMs = Date.now()
  const app = new Hono<ActorEnv>()
    .use(async (c, next) => {
      c.set('deps', testDeps({ nowMs: () => nowMs }))
      await next()
    })
    .use(requireActor(createKeyring()))
    .route('/', overviewRoutes({ tickMs: 50, maxStreamMs: 60_000 }))
  const response = await app.request('/events?model=overview-b', { headers: { cookie } })
  expect(response.status).toBe(200)
  const events = readEvents(response)
  const first = await events.next()
  expect(first?.event).toBe('overview')
  expect(JSON.parse(first?.data ?? '')).toMatchObject({ nodes: [{ drained_by_operator: false }] })
  await adminJson('PUT', '/nodes/overview-1/drain')
  nowMs += 2_000
  const next = async () => {
    for (;;) {
      const event = await events.next()
      if (event?.event !== 'heartbeat') return event
    }
  }
  const second = await next()
  expect(second?.event).toBe('overview')
  expect(JSON.parse(second?.data ?? '')).toMatchObject({ nodes: [{ drained_by_operator: true }] })
  expect((await events.next())?.event).toBe('heartbeat')
  await adminJson('DELETE', `/keys/${id}`)
  expect(await next()).toBeUndefined()
})

test('a stream that has lasted says that it ends, and one without an overview ends at once', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  let nowMs = Date.now()
  let isBroken = false
  const { fleet } = testDeps()
  const deps = Object.defineProperty(testDeps({ nowMs: () => nowMs }), 'fleet', {
    get() {
      if (isBroken) throw new Error('the fleet is lost')
      return fleet
    },
  })
  const app = new Hono<ActorEnv>()
    .use(async (c, next) => {
      c.set('deps', deps)
      c.set('actor', { kind: 'operator' })
      c.set('actorInForce', () => Promise.resolve(true))
      await next()
    })
    .route('/', overviewRoutes({ tickMs: 5, maxStreamMs: 60_000 }))
  const open = async () => readEvents(await app.request('/events?model=overview-b'))
  const lasting = await open()
  expect((await lasting.next())?.event).toBe('overview')
  expect((await lasting.next())?.event).toBe('heartbeat')
  nowMs += 60_000
  let last
  for (let event = await lasting.next(); event; event = await lasting.next()) last = event
  expect(last?.event).toBe('end')
  const breaking = await open()
  expect((await breaking.next())?.event).toBe('overview')
  isBroken = true
  nowMs += 2_000
  let rest
  for (let event = await breaking.next(); event; event = await breaking.next()) rest = event
  expect(rest?.event ?? 'heartbeat').toBe('heartbeat')
})

test('a key has few streams at once, and gets one again when it has closed another', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const app = createApp()
  const open = async () => {
    const ctx = createExecutionContext()
    const { key } = await created
    const response = await app.request(
      '/admin/events?model=overview-b',
      { headers: { authorization: `Bearer ${key}` } },
      { ...env, COPAL_LISTS_PER_MINUTE: '0' },
      ctx,
    )
    return { response, ended: () => waitOnExecutionContext(ctx) }
  }
  const created = adminJson<CreatedKey>('POST', '/keys', { name: 'many screens', scopes: ['read-admin'] })
  const streams = []
  for (let i = 0; i < 16; i += 1) streams.push(await open())
  const { response: refused } = await open()
  expect([refused.status, (await errorOf(refused)).code]).toEqual([429, 'rate_limit_exceeded'])
  await streams[0]?.response.body?.cancel()
  await expect
    .poll(async () => {
      const { response } = await open()
      await response.body?.cancel()
      return response.status
    })
    .toBe(200)
  for (const { response } of streams.slice(1)) await response.body?.cancel()
}, 30_000)

test('streams that look at the same time share one computation', async () => {
  let computed = 0
  const report = { nodes: [], at: 'now' } as unknown as OverviewReport
  const gate = Promise.withResolvers<undefined>()
  const cache = createOverviewCache(async () => {
    computed += 1
    await gate.promise
    return report
  })
  let nowMs = 1_000
  const deps = testDeps({ nowMs: () => nowMs })
  const all = Array.from({ length: 5 }, () => cache.read(deps, 'm'))
  gate.resolve(undefined)
  await Promise.all(all)
  await cache.read(deps, 'm')
  expect(computed).toBe(1)
  nowMs += 2_000
  await Promise.all([cache.read(deps, 'm'), cache.read(deps, 'm')])
  expect(computed).toBe(2)
})

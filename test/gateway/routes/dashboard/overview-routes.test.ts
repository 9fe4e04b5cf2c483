import { env } from 'cloudflare:workers'
import { createExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { domainSummary, overviewReport } from '@copal/shared/wire/admin-overview.ts'
import { AppError } from '@copal/shared/errors.ts'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { overviewReport as gatherOverview } from '../../../../gateway/src/dashboard/overview.ts'
import { StreamSlots } from '../../../../gateway/src/dashboard/stream-slots.ts'
import { createOverviewCache } from '../../../../gateway/src/dashboard/overview-cache.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { ensureDomains } from '../../../../gateway/src/storage/db/queries/domain-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { admin, adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
import { moveClock } from '../../support/doubles/stopped-clock.ts'
import { signIn } from '../../support/requests/dashboard-session.ts'
import { errorOf, receiptOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { TEST_ADMIN_KEY } from '../../support/setup/secrets.ts'
import { seedMasks } from '../../support/state/seed-masks.ts'

const db = openDatabase(env.DB)

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

/** Opens a stream of an application of its own, by default as the operator. */
async function open(
  app: ReturnType<typeof createApp>,
  headers: Record<string, string> = { authorization: `Bearer ${TEST_ADMIN_KEY}` },
  bindings: typeof env = env,
): Promise<Response> {
  return app.request('/admin/events?model=overview-b', { headers }, bindings, createExecutionContext())
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

test('the health is that of all domains, and those with most traffic are listed', async () => {
  await sendHeartbeat({ id: 'overview-3', url: 'http://127.0.0.1:3' }, 'overview-many')
  const model = 'overview-many'
  await seedMasks(model, [1])
  const busy = Array.from({ length: 50 }, (_, index) => `many-${String(index).padStart(2, '0')}`)
  const scored = (domain: string, place: number, nllMasked: number) =>
    receiptOf(`${domain}-${place}`, {
      model,
      domain,
      maskVersion: 1,
      drift: { tokens: 100, nllMasked, nllDense: 300 },
    })
  const costly = Array.from({ length: 5 }, (_, place) => scored('many-rare', place, 400 + place))
  const receipts = busy.flatMap((domain) =>
    Array.from({ length: 6 }, (_, place) => scored(domain, place, 301)),
  )
  const nowMs = Date.now()
  await insertReceipts(db, 'overview-3', [...receipts, ...costly], 'node', nowMs)
  const {
    domains,
    domain_count: count,
    unlisted_domains: unlisted,
    health,
  } = await gatherOverview(testDeps({ nowMs: () => nowMs }), model)
  expect(domains.map(({ name }) => name)).toEqual(busy)
  // The one that is not registered.
  expect([count, unlisted]).toEqual([51, 1])
  await ensureDomains(db, ['many-rare'], nowMs)
  expect((await gatherOverview(testDeps({ nowMs: () => nowMs }), model)).unlisted_domains).toBe(0)
  expect(health.problems).toContainEqual(
    expect.stringMatching(/^pruning raises the perplexity of many-rare by more than the allowed /),
  )
  // The page of a domain that is not listed reads it by itself.
  const trafficOf = (domain: string) => adminJson('GET', `/domains/${domain}/traffic?model=${model}`)
  const rare = domainSummary.parse(await trafficOf('many-rare'))
  expect(rare).toMatchObject({ name: 'many-rare', requests: 5, traffic_share: 5 / 305, mask_version: 1 })
  expect(rare.gap?.mean).toBeCloseTo(1.02, 2)
  expect(await trafficOf('many-00')).toMatchObject({ requests: 6 })
  expect(await trafficOf('unheard')).toMatchObject({ requests: 0 })
  expect((await admin('GET', `/domains/Not-A-Name/traffic?model=${model}`)).status).toBe(400)
})

test("the health names a domain's own mask that no node holds, and that no request was scored", async () => {
  const model = 'overview-own'
  await sendHeartbeat({ id: 'overview-4', url: 'http://127.0.0.1:4' }, model)
  await seedMasks(model, [1, 2])
  await env.DB.prepare('update models set domain_versions = ? where id = ?')
    .bind(JSON.stringify({ 'own-legal': 2 }), model)
    .run()
  const nowMs = Date.now()
  const receipt = receiptOf('overview-own-1', { model, domain: 'own-legal', scoring: 'too_short' })
  await insertReceipts(db, 'overview-4', [receipt], 'node', nowMs)
  const textNow = async () => (await gatherOverview(testDeps({ nowMs: () => nowMs }), model)).health.text
  expect(await textNow()).toContain('o node holds the own mask of own-legal')
  await env.DB.prepare("update models set domain_versions = '{}', active_version = 0 where id = ?")
    .bind(model)
    .run()
  expect(await textNow()).toContain(
    'no request was scored in 24 hours, so drift is not known. New texts were too short',
  )
})

test('streams send the overview at once and when it has changed, then a heartbeat, and end with the session', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const { id, key } = await adminJson<CreatedKey>('POST', '/keys', { name: 'screen', scopes: ['read-admin'] })
  const { cookie } = await signIn({ key })
  const response = await open(createApp({ streamTimes: { tickMs: 50, maxStreamMs: 60_000 } }), { cookie })
  expect(response.status).toBe(200)
  const events = readEvents(response)
  const first = await events.next()
  expect(first?.event).toBe('overview')
  expect(JSON.parse(first?.data ?? '')).toMatchObject({ nodes: [{ drained_by_operator: false }] })
  await adminJson('PUT', '/nodes/overview-1/drain')
  moveClock(2_000)
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
  const app = createApp({ streamTimes: { tickMs: 5, maxStreamMs: 60_000 } })
  const lasting = readEvents(await open(app))
  expect((await lasting.next())?.event).toBe('overview')
  expect((await lasting.next())?.event).toBe('heartbeat')
  moveClock(60_000)
  let last
  for (let event = await lasting.next(); event; event = await lasting.next()) last = event
  expect(last?.event).toBe('end')
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const bindings = { ...env }
  const breaking = readEvents(await open(app, undefined, bindings))
  expect((await breaking.next())?.event).toBe('overview')
  Object.defineProperty(bindings, 'FLEET', {
    get() {
      throw new Error('the fleet is lost')
    },
  })
  moveClock(2_000)
  let rest
  for (let event = await breaking.next(); event; event = await breaking.next()) rest = event
  expect(rest?.event ?? 'heartbeat').toBe('heartbeat')
})

test('a key has few streams at once, and gets one again when it has closed another', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const app = createApp()
  const { key } = await adminJson<CreatedKey>('POST', '/keys', { name: 'screens', scopes: ['read-admin'] })
  const another = () => open(app, { authorization: `Bearer ${key}` }, { ...env, COPAL_LISTS_PER_MINUTE: '0' })
  const streams = []
  for (let i = 0; i < 16; i += 1) streams.push(await another())
  const refused = await another()
  expect([refused.status, (await errorOf(refused)).code]).toEqual([429, 'rate_limit_exceeded'])
  await streams[0]?.body?.cancel()
  await expect
    .poll(async () => {
      const response = await another()
      await response.body?.cancel()
      return response.status
    })
    .toBe(200)
  for (const { body } of streams.slice(1)) await body?.cancel()
})

test('a stream whose client has left, or that must have ended, keeps no slot, though its code is never run again', () => {
  const slots = new StreamSlots()
  const endMs = 60_000
  const gone = new AbortController()
  const take = (nowMs: number, signal = new AbortController().signal) =>
    slots.take('one', { nowMs, endMs: nowMs + endMs, signal })
  take(0, gone.signal)
  for (let i = 1; i < 16; i += 1) take(i)
  expect(() => take(20)).toThrow(AppError)
  gone.abort()
  const release = take(21)
  expect(() => take(22)).toThrow(AppError)
  // Those of other keys have their own.
  slots.take('other', { nowMs: 23, endMs, signal: new AbortController().signal })
  release()
  release()
  take(24)
  expect(() => take(25)).toThrow(AppError)
  take(1 + endMs)
})

test('the slot of a request that is aborted is free', async () => {
  await sendHeartbeat({ id: 'overview-1', url: 'http://127.0.0.1:1' }, 'overview-b')
  const { key } = await adminJson<CreatedKey>('POST', '/keys', { name: 'reloads', scopes: ['read-admin'] })
  const app = createApp()
  const reload = async () => {
    const client = new AbortController()
    const response = await app.request(
      '/admin/events?model=overview-b',
      { headers: { authorization: `Bearer ${key}` }, signal: client.signal },
      { ...env, COPAL_LISTS_PER_MINUTE: '0' },
      createExecutionContext(),
    )
    return { client, response }
  }
  const streams = []
  for (let i = 0; i < 16; i += 1) streams.push(await reload())
  expect((await reload()).response.status).toBe(429)
  streams[0]?.client.abort()
  const next = await reload()
  expect(next.response.status).toBe(200)
  for (const { response } of [...streams, next]) await response.body?.cancel()
})

test('streams that look at the same time share one computation', async () => {
  let computed = 0
  const gate = Promise.withResolvers<undefined>()
  const cache = createOverviewCache(async (...args) => {
    computed += 1
    await gate.promise
    return gatherOverview(...args)
  })
  let nowMs = 1_000
  const deps = testDeps({ nowMs: () => nowMs })
  const all = Array.from({ length: 5 }, () => cache.read(deps, 'overview-b'))
  gate.resolve(undefined)
  await Promise.all(all)
  await cache.read(deps, 'overview-b')
  expect(computed).toBe(1)
  nowMs += 2_000
  await Promise.all([cache.read(deps, 'overview-b'), cache.read(deps, 'overview-b')])
  expect(computed).toBe(2)
})

test('after an hour without a page nobody gets the overview of then, also while the next one is computed', async () => {
  const cache = createOverviewCache(gatherOverview)
  let nowMs = Date.now()
  const deps = testDeps({ nowMs: () => nowMs })
  await cache.read(deps, 'overview-b')
  nowMs += 3_600_000
  const both = await Promise.all([cache.read(deps, 'overview-b'), cache.read(deps, 'overview-b')])
  const now = new Date(nowMs).toISOString()
  expect(both.map(({ json }) => overviewReport.parse(JSON.parse(json)).at)).toEqual([now, now])
})

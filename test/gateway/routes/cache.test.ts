import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { CacheEntry, CreatedKey } from '@copal/shared/wire/keys.ts'
import type { ChatCall, KeptAnswer } from '@copal/shared/wire/node-rpc.ts'
import { openDatabase } from '../../../gateway/src/db/database.ts'
import { activateVersion, findModel } from '../../../gateway/src/db/queries/models.ts'
import { admin, adminJson } from '../support/adaptation.ts'
import { beat, createKey, errorOf, get, post, signedPost, until } from '../support/gateway.ts'
import { startNode, type NodeDouble } from '../support/node-double.ts'
import type { NodeStep } from '../support/node-script.ts'

const cacheOf = (tenant: string) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant))
const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
const ready = (version: number) => ({ version, state: 'ready', requests: 0 }) as const

let node: NodeDouble
let key: string
let active = 0

beforeAll(async () => {
  // Each answer is another, so that one which was kept shows.
  const steps = Array.from({ length: 200 }, (_, n) => ({ kind: 'answer' as const, body: `{"n":${n}}` }))
  node = await startNode('cache-1', steps)
  for (const tenant of ['cached', 'other']) await adminJson('PUT', `/tenants/${tenant}`)
  key = (await createKey({ tenant: 'cached' })).key
})
const heartbeat = () =>
  beat(node, 'tiny', { activeVersion: active, weightSets: [ready(0), ready(active || 1)] })
// A node that is not heard of for six seconds takes nothing.
beforeEach(heartbeat)

let prompts = 0
/** A request that nobody sent before. */
const fresh = (fields: object = {}) => ({
  model: 'tiny',
  messages: [{ role: 'user', content: `question ${(prompts += 1)}` }],
  temperature: 0,
  max_tokens: 5,
  ...fields,
})
const ask = (body: object, headers: Record<string, string> = {}, as = key) =>
  post(as, '/v1/chat/completions', body, { headers: { 'x-copal-cache': 'true', ...headers } })
/** Answers go into the cache behind themselves. */
const kept = async (tenant: string, more: () => Promise<Response>) => {
  const before = (await cacheOf(tenant).stats()).answers
  let response = await more()
  // On a busy machine a look-up may be given up, and then nothing is kept.
  while (response.headers.get('x-copal-cache') === 'bypass') response = await more()
  await until('the answer to be kept', async () =>
    (await cacheOf(tenant).stats()).answers > before ? true : undefined,
  )
  return response
}
const calls = async () => (await node.calls()).length
const shown = ({ headers }: Response) =>
  ['x-copal-cache', 'x-copal-mask', 'x-copal-node', 'x-copal-domain', 'content-type'].map((name) =>
    headers.get(name),
  )

describe('a request that asks for the cache', () => {
  test('gets the same bytes again without a node, and is told so', async () => {
    const body = fresh()
    const first = await kept('cached', () => ask(body))
    const before = await calls()
    const second = await ask(body, { 'x-copal-domain': 'legal' })
    expect(shown(first)).toEqual(['miss', '0', 'cache-1', 'default', 'application/json'])
    expect(shown(second)).toEqual(['hit', '0', 'cache-1', 'legal', 'application/json'])
    expect(Number(second.headers.get('age'))).toBeLessThan(5)
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'))
    expect(await second.text()).toBe(await first.text())
    expect(await calls()).toBe(before)
  })

  test.each([
    ['/v1/completions', { prompt: 'x', temperature: 0 }],
    ['/v1/responses', { input: 'x', temperature: 0.5, seed: 7 }],
    ['/v1/embeddings', { input: 'x' }],
  ])('does so at %s too', async (path, fields) => {
    const send = () => post(key, path, { model: 'tiny', ...fields }, { headers: { 'x-copal-cache': 'true' } })
    const first = await kept('cached', send)
    const second = await send()
    expect([first, second].map(({ headers }) => headers.get('x-copal-cache'))).toEqual(['miss', 'hit'])
    expect(await second.text()).toBe(await first.text())
  })

  test('is answered while no node is there', async () => {
    const body = fresh()
    await kept('cached', () => ask(body))
    await beat(node, 'tiny', { draining: true })
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('hit')
    expect((await ask(fresh())).status).toBe(503)
  })

  test('uses nothing of its limits when it hits', async () => {
    const limits = { requests_per_minute: 1, tokens_per_minute: 500 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    const body = fresh()
    await kept('cached', () => ask(body, {}, made.key))
    for (let again = 0; again < 3; again += 1) {
      const hit = await ask(body, {}, made.key)
      expect([hit.status, hit.headers.get('x-copal-cache')]).toEqual([200, 'hit'])
    }
    expect((await ask(fresh(), {}, made.key)).status).toBe(429)
  })

  test('is sampled once, when its answer is made', async () => {
    const sampled = await createKey({ tenant: 'cached', sampling: 'always', defaultDomain: 'cache-sampling' })
    const body = fresh()
    await kept('cached', () => ask(body, {}, sampled.key))
    expect((await ask(body, {}, sampled.key)).headers.get('x-copal-cache')).toBe('hit')
    await ask(fresh(), {}, sampled.key)
    await until('both questions', async () =>
      (await reservoir('cache-sampling').stats()).seen >= 2 ? true : undefined,
    )
    expect((await reservoir('cache-sampling').stats()).seen).toBe(2)
  })

  test('gets a new answer with refresh, which takes the place of the old one', async () => {
    const body = fresh()
    const first = await (await kept('cached', () => ask(body))).text()
    const refreshed = await ask(body, { 'x-copal-cache': 'refresh' })
    expect(refreshed.headers.get('x-copal-cache')).toBe('miss')
    const second = await refreshed.text()
    expect(second).not.toBe(first)
    await until('the new answer', async () =>
      (await (await ask(body)).text()) === second ? true : undefined,
    )
  })

  test('gets no answer that is older than it says', async () => {
    const body = fresh()
    await kept('cached', () => ask(body))
    await runInDurableObject(cacheOf('cached'), (_instance, { storage }) => {
      storage.sql.exec('UPDATE answers SET at_ms = at_ms - 10000')
    })
    const hit = await ask(body, { 'x-copal-cache-ttl': '60' })
    expect([hit.headers.get('x-copal-cache'), Number(hit.headers.get('age')) >= 10]).toEqual(['hit', true])
    expect((await ask(body, { 'x-copal-cache-ttl': '10' })).headers.get('x-copal-cache')).toBe('miss')
  })

  test('is refused with a header that means nothing', async () => {
    for (const [headers, param] of [
      [{ 'x-copal-cache': 'yes' }, 'x-copal-cache'],
      [{ 'x-copal-cache-ttl': '0' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache-ttl': '1.5' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache-ttl': '86401' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache': 'false', 'x-copal-cache-ttl': 'soon' }, 'x-copal-cache-ttl'],
    ] as const) {
      const response = await ask(fresh(), headers)
      expect([response.status, (await errorOf(response)).param]).toEqual([400, param])
    }
  })

  test('runs as if there were no cache while that cannot be asked', async () => {
    const broken = await createKey({ tenant: 'broken' })
    await runInDurableObject(cacheOf('broken'), (_instance, { storage }) => {
      storage.sql.exec('DROP TABLE answers')
    })
    const response = await ask(fresh(), {}, broken.key)
    expect([response.status, response.headers.get('x-copal-cache')]).toEqual([200, 'bypass'])
  })
})

describe('nothing is kept', () => {
  test('of a request that does not ask for it', async () => {
    const body = fresh()
    for (const header of [undefined, 'false']) {
      const headers: Record<string, string> = header === undefined ? {} : { 'x-copal-cache': header }
      const response = await post(key, '/v1/chat/completions', body, { headers })
      expect(response.headers.get('x-copal-cache')).toBeNull()
    }
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('miss')
  })

  test('of one that draws without a seed', async () => {
    for (const fields of [{ temperature: 0.7 }, { temperature: null }]) {
      const body = fresh(fields)
      for (let again = 0; again < 2; again += 1) {
        const before = await calls()
        const response = await ask(body)
        expect([response.status, response.headers.get('x-copal-cache')]).toEqual([200, 'bypass'])
        expect(await calls()).toBe(before + 1)
      }
    }
  })

  test('of one that fails', async () => {
    const message = {
      error: { message: 'too long', type: 'x', param: null, code: 'context_length_exceeded' },
    }
    const failing = await startNode('cache-failing', [
      { kind: 'answer', status: 400, body: JSON.stringify(message) },
      { kind: 'answer', body: '{"ok":1}' },
    ])
    await beat(failing, 'failing')
    const body = fresh({ model: 'failing' })
    expect((await ask(body)).status).toBe(400)
    const second = await kept('cached', () => ask(body))
    expect([second.status, second.headers.get('x-copal-cache')]).toEqual([200, 'miss'])
    expect(await (await ask(body)).text()).toBe('{"ok":1}')
  })

  test('of an answer that a limit of the key made shorter than its request asked for', async () => {
    const limits = { tokens_per_minute: 2_000 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    const body = fresh({ max_tokens: undefined })
    const before = (await cacheOf('cached').stats()).answers
    await (await ask(body, {}, made.key)).text()
    const unlimited = await kept('cached', () => ask(body))
    expect(unlimited.headers.get('x-copal-cache')).toBe('miss')
    expect((await cacheOf('cached').stats()).answers).toBe(before + 1)
  })
})

describe('a stream', () => {
  const chunks = ['data: {"n":1}\n\n', 'data: {"n":2}\n\n', 'data: [DONE]\n\n']
  const body = () => fresh({ model: 'streaming', stream: true })
  let streaming: NodeDouble
  beforeAll(async () => {
    streaming = await startNode('cache-stream', [{ kind: 'stream', chunks, ending: 'end' }])
  })
  beforeEach(() => beat(streaming, 'streaming'))
  const lastCall = async () => JSON.parse((await streaming.calls()).at(-1)?.body ?? '') as ChatCall
  /** Gives an answer once more, as its node does when it is whole. */
  const giveAgain = async ({ keep, tenant = '' }: ChatCall, changes: Partial<KeptAnswer> = {}) =>
    signedPost('/internal/nodes/answers', {
      ...keep,
      tenant,
      nodeId: streaming.id,
      maskVersion: 0,
      contentType: 'text/event-stream; charset=utf-8',
      body: chunks.join(''),
      ...changes,
    })

  test('is kept when its node gives it once more, and then is sent as it was', async () => {
    const asked = body()
    const first = await ask(asked, { 'x-copal-cache-ttl': '600' })
    expect(first.headers.get('x-copal-cache')).toBe('miss')
    expect(await first.text()).toBe(chunks.join(''))
    const call = await lastCall()
    expect(call.keep).toEqual({ key: expect.stringMatching(/^[0-9a-f]{64}$/) as string, ttlMs: 600_000 })
    expect((await ask(asked)).headers.get('x-copal-cache')).toBe('miss')
    expect((await giveAgain(call)).status).toBe(200)
    const before = (await streaming.calls()).length
    const hit = await ask(asked)
    expect(shown(hit)).toEqual(['hit', '0', 'cache-stream', 'default', 'text/event-stream; charset=utf-8'])
    expect(hit.headers.get('cache-control')).toBe('no-cache')
    expect(await hit.text()).toBe(chunks.join(''))
    expect((await streaming.calls()).length).toBe(before)
    const stranger = await createKey({ tenant: 'another' })
    expect((await ask(asked, {}, stranger.key)).headers.get('x-copal-cache')).toBe('miss')
  })

  test('is kept under the mask that gave it', async () => {
    const asked = body()
    await (await ask(asked)).text()
    await giveAgain(await lastCall(), { maskVersion: 7 })
    expect((await ask(asked)).headers.get('x-copal-cache')).toBe('miss')
    const named = await ask({ ...asked, model: 'streaming@mask-7' })
    expect(shown(named).slice(0, 2)).toEqual(['hit', '7'])
  })

  test('is not asked for again where nothing is to be kept, or a limit may have made it shorter', async () => {
    await (await post(key, '/v1/chat/completions', body())).text()
    expect(await lastCall()).not.toHaveProperty('keep')
    await (await ask(fresh({ model: 'streaming', stream: true, temperature: 1 }))).text()
    expect(await lastCall()).not.toHaveProperty('keep')
    const limits = { tokens_per_minute: 2_000 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    await (await ask({ ...body(), max_tokens: undefined }, {}, made.key)).text()
    expect(await lastCall()).not.toHaveProperty('keep')
  })

  test('is taken from nodes alone, and within bounds', async () => {
    await (await ask(body())).text()
    const call = await lastCall()
    const forged = {
      ...call.keep,
      tenant: 'cached',
      nodeId: 'x',
      maskVersion: 0,
      contentType: 'x',
      body: 'x',
    }
    expect((await signedPost('/internal/nodes/answers', forged, 'not the secret of nodes')).status).toBe(401)
    expect((await giveAgain(call, { body: 'x'.repeat(1024 * 1024 + 1) })).status).toBe(400)
    expect((await giveAgain(call, { key: 'a key' })).status).toBe(400)
  })
})

describe('the same request at the same time', () => {
  /** An answer that takes long enough for others to come meanwhile. */
  const slow = (n: number, status = 200) => ({
    kind: 'stream' as const,
    status,
    headers: { 'content-type': 'application/json' },
    chunks: [
      status === 200 ? `{"n":${n}}` : '{"error":{"message":"no","type":"x","code":"invalid_request"}}',
    ],
    pauseMs: 400,
    ending: 'end' as const,
  })
  /** A model of its own, on a node that does this. */
  const serve = async (model: string, steps: NodeStep[]) => {
    const double = await startNode(`cache-${model}`, steps)
    await beat(double, model)
    return { double, body: fresh({ model }), count: async () => (await double.calls()).length }
  }
  const called = (count: () => Promise<number>) =>
    until('a call', async () => ((await count()) > 0 ? true : undefined))
  const statusOf = (response: Response) => `${response.status} ${response.headers.get('x-copal-cache')}`

  test('is answered by one generation, within a tenant', async () => {
    const { body, count } = await serve('merged', [slow(1), slow(2)])
    const before = await cacheOf('cached').stats()
    const pending = Array.from({ length: 5 }, () => ask(body))
    const stranger = await createKey({ tenant: 'merged-stranger' })
    const other = await ask(body, {}, stranger.key)
    const answers = await Promise.all(pending)
    expect(answers.map(statusOf).sort()).toEqual(['200 hit', '200 hit', '200 hit', '200 hit', '200 miss'])
    const texts = await Promise.all(answers.map((answer) => answer.text()))
    expect(new Set(texts).size).toBe(1)
    expect(other.headers.get('x-copal-cache')).toBe('miss')
    expect(await other.text()).not.toBe(texts[0])
    expect(await count()).toBe(2)
    const { hits, misses } = await cacheOf('cached').stats()
    expect([hits - before.hits, misses - before.misses]).toEqual([4, 1])
  })

  test('runs by itself where the first one fails', async () => {
    const { body, count } = await serve('merged-failure', [slow(0, 400), slow(1), slow(2)])
    const first = ask(body)
    await called(count)
    const others = [ask(body), ask(body)]
    expect((await first).status).toBe(400)
    expect((await Promise.all(others)).map(statusOf)).toEqual(['200 miss', '200 miss'])
    expect(await count()).toBe(3)
  })

  test('is made once more for all others where the first client leaves', async () => {
    const { body, count } = await serve('merged-left', [{ kind: 'hang' }, slow(1), slow(2)])
    const abort = new AbortController()
    const options = { headers: { 'x-copal-cache': 'true' } }
    const first = post(key, '/v1/chat/completions', body, { ...options, signal: abort.signal })
    first.catch(() => undefined)
    await called(count)
    const others = Array.from({ length: 3 }, () => ask(body))
    const second = new AbortController()
    const leaving = post(key, '/v1/chat/completions', body, { ...options, signal: second.signal })
    leaving.catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 100))
    second.abort()
    abort.abort()
    const answers = await Promise.all(others)
    expect(answers.map(statusOf).sort()).toEqual(['200 hit', '200 hit', '200 miss'])
    expect(await count()).toBe(2)
  })

  test('waits for a stream until its node has given it once more', async () => {
    const chunks = ['data: {"n":1}\n\n', 'data: [DONE]\n\n']
    const { double, body, count } = await serve('merged-stream', [
      { kind: 'stream', chunks, pauseMs: 200, ending: 'end' },
    ])
    const asked = { ...body, stream: true }
    const first = await ask(asked)
    const others = [ask(asked), ask(asked)]
    expect(await first.text()).toBe(chunks.join(''))
    const { keep, tenant } = JSON.parse((await double.calls())[0]?.body ?? '') as ChatCall
    const given = { ...keep, tenant, nodeId: double.id, maskVersion: 0 }
    await signedPost('/internal/nodes/answers', {
      ...given,
      contentType: 'text/event-stream',
      body: chunks.join(''),
    })
    for (const other of await Promise.all(others)) {
      expect(statusOf(other)).toBe('200 hit')
      expect(await other.text()).toBe(chunks.join(''))
    }
    expect(await count()).toBe(1)
  })
})

describe('an answer is of one mask', () => {
  async function promote(version: number): Promise<void> {
    const db = openDatabase(env.DB)
    const model = await findModel(db, 'tiny')
    if (!model || !(await activateVersion(db, model, version))) throw new Error('not activated')
    active = version
    await heartbeat()
  }

  test('and not found once another is promoted, but again after the way back, or by its name', async () => {
    const body = fresh()
    const dense = await (await kept('cached', () => ask(body))).text()
    await promote(7)
    const pruned = await kept('cached', () => ask(body))
    expect(shown(pruned).slice(0, 2)).toEqual(['miss', '7'])
    const hit = await ask(body)
    expect([shown(hit).slice(0, 2), await hit.text()]).toEqual([['hit', '7'], await pruned.text()])
    const named = await ask({ ...body, model: 'tiny@dense' })
    expect([shown(named).slice(0, 2), await named.text()]).toEqual([['hit', '0'], dense])
    await promote(0)
    expect(await (await ask(body)).text()).toBe(dense)
  })

  test('which gave it: a node that has not swapped yet fills no cache of the new one', async () => {
    const body = fresh()
    const db = openDatabase(env.DB)
    const model = await findModel(db, 'tiny')
    if (!model || !(await activateVersion(db, model, 8))) throw new Error('not activated')
    await beat(node, 'tiny', { activeVersion: 0, weightSets: [ready(0)] })
    const late = await kept('cached', () => ask(body))
    expect(shown(late).slice(0, 2)).toEqual(['miss', '0'])
    active = 8
    await heartbeat()
    expect(shown(await ask(body)).slice(0, 2)).toEqual(['miss', '8'])
    await promote(0)
  })
})

describe('a cache is one tenant’s', () => {
  test('whose keys share it, and no other tenant’s key finds, counts or deletes anything there', async () => {
    const body = fresh()
    const ours = await (await kept('cached', () => ask(body))).text()
    const sibling = await createKey({ tenant: 'cached' })
    expect(await (await ask(body, {}, sibling.key)).text()).toBe(ours)
    const stranger = await createKey({ tenant: 'other', scopes: ['inference', 'admin'] })
    const theirs = await kept('other', () => ask(body, {}, stranger.key))
    expect(theirs.headers.get('x-copal-cache')).toBe('miss')
    expect(await theirs.text()).not.toBe(ours)
    for (const method of ['GET', 'DELETE']) {
      const response = await admin(method, '/tenants/cached/cache', undefined, stranger.key)
      expect([response.status, (await errorOf(response)).param]).toEqual([403, 'tenant'])
    }
    const own = await (await get('/admin/tenants/other/cache', stranger.key)).json<CacheEntry>()
    expect(own).toMatchObject({ tenant: 'other', answers: 1, hits: 0, misses: 1 })
  })

  test('and opens to no key that may not use the model', async () => {
    const body = fresh()
    await kept('cached', () => ask(body))
    const bounded = await createKey({ tenant: 'cached', allowedModels: ['something-else'] })
    const response = await ask(body, {}, bounded.key)
    expect([response.status, (await errorOf(response)).param]).toEqual([403, 'model'])
  })

  test('whose hits and misses show at /metrics, to it and to the operator', async () => {
    const mine = await createKey({ tenant: 'metered', scopes: ['inference', 'read-metrics'] })
    const body = fresh()
    await kept('metered', () => ask(body, {}, mine.key))
    expect((await ask(body, {}, mine.key)).headers.get('x-copal-cache')).toBe('hit')
    const { bytes } = await cacheOf('metered').stats()
    const told = [
      'copal_cache_lookups_total{tenant="metered",outcome="hit"} 1',
      'copal_cache_lookups_total{tenant="metered",outcome="miss"} 1',
      'copal_cache_answers{tenant="metered"} 1',
      `copal_cache_bytes{tenant="metered"} ${bytes}`,
    ]
    const linesOf = async (token?: string) => (await (await get('/metrics', token)).text()).split('\n')
    await until('the counts', async () => ((await linesOf()).includes(told[0] ?? '') ? true : undefined))
    expect(await linesOf()).toEqual(expect.arrayContaining(told))
    const own = (await linesOf(mine.key)).filter((line) => line.startsWith('copal_cache_'))
    expect(own).toEqual(told)
  })

  test('which its administrator and the operator look at and empty', async () => {
    const body = fresh()
    const chief = await createKey({ tenant: 'cached', scopes: ['inference', 'admin'] })
    await kept('cached', () => ask(body))
    const held = await adminJson<CacheEntry>('GET', '/tenants/cached/cache')
    expect(held.answers).toBeGreaterThan(0)
    expect(held.bytes).toBeGreaterThan(0)
    const gone = await admin('DELETE', '/tenants/cached/cache', undefined, chief.key)
    expect(await gone.json()).toEqual({ tenant: 'cached', deleted: held.answers })
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('miss')
    const unknown = await admin('GET', '/tenants/nobody/cache')
    expect([unknown.status, (await errorOf(unknown)).message]).toEqual([
      404,
      "There is no tenant 'nobody'. 'GET /admin/tenants' lists them.",
    ])
  })
})

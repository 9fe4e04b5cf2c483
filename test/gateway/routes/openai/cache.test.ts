import { env } from 'cloudflare:workers'
import { createExecutionContext, runInDurableObject, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import {
  cacheOf,
  newRequest,
  untilCached,
  shownHeaders,
  useCachedNode,
} from '../../support/doubles/cached-node.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  ORIGIN,
  post,
  until,
} from '../../support/requests/gateway-requests.ts'
import { blockObject } from '../../support/faults/held-object.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))
const cached = useCachedNode()
const { ask, calls } = cached

describe('a request that asks for the cache', () => {
  test('gets the same bytes again without a node, with a header that says so', async () => {
    stopClock()
    const body = newRequest()
    const first = await untilCached('cached', () => ask(body))
    const before = await calls()
    const second = await ask(body, { 'x-copal-domain': 'legal' })
    expect(shownHeaders(first)).toEqual(['miss', '0', 'cache-1', 'default', 'application/json'])
    expect(shownHeaders(second)).toEqual(['hit', '0', 'cache-1', 'legal', 'application/json'])
    expect(Number(second.headers.get('age'))).toBe(0)
    expect(second.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'))
    expect(await second.text()).toBe(await first.text())
    expect(await calls()).toBe(before)
  })

  test.each([
    ['/v1/completions', { prompt: 'x', temperature: 0 }],
    ['/v1/responses', { input: 'x', temperature: 0.5, seed: 7 }],
    ['/v1/embeddings', { input: 'x' }],
  ])('is served from the cache at %s as well', async (path, fields) => {
    const send = () =>
      post(cached.key, path, { model: 'tiny', ...fields }, { headers: { 'x-copal-cache': 'true' } })
    const first = await untilCached('cached', send)
    const second = await send()
    expect([first, second].map(({ headers }) => headers.get('x-copal-cache'))).toEqual(['miss', 'hit'])
    expect(await second.text()).toBe(await first.text())
  })

  test('is served while there is no node', async () => {
    const body = newRequest()
    await untilCached('cached', () => ask(body))
    await sendHeartbeat(cached.node, 'tiny', { draining: true })
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('hit')
    expect((await ask(newRequest())).status).toBe(503)
  })

  test('uses no part of its limits on a hit', async () => {
    const limits = { requests_per_minute: 1, tokens_per_minute: 500 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    const body = newRequest()
    await untilCached('cached', () => ask(body, {}, made.key))
    for (let again = 0; again < 3; again += 1) {
      const hit = await ask(body, {}, made.key)
      expect([hit.status, hit.headers.get('x-copal-cache')]).toEqual([200, 'hit'])
    }
    expect((await ask(newRequest(), {}, made.key)).status).toBe(429)
  })

  test('is sampled once, when its response is generated', async () => {
    const sampled = await createKey({ tenant: 'cached', sampling: 'always', defaultDomain: 'cache-sampling' })
    const body = newRequest()
    await untilCached('cached', () => ask(body, {}, sampled.key))
    expect((await ask(body, {}, sampled.key)).headers.get('x-copal-cache')).toBe('hit')
    await ask(newRequest(), {}, sampled.key)
    await until('both questions', async () =>
      (await reservoir('cache-sampling').stats()).seen >= 2 ? true : undefined,
    )
    expect((await reservoir('cache-sampling').stats()).seen).toBe(2)
  })

  test('gets a new response with refresh, which replaces the old one', async () => {
    const body = newRequest()
    const first = await (await untilCached('cached', () => ask(body))).text()
    const refreshed = await ask(body, { 'x-copal-cache': 'refresh' })
    expect(refreshed.headers.get('x-copal-cache')).toBe('miss')
    const second = await refreshed.text()
    expect(second).not.toBe(first)
    await until('the new answer', async () =>
      (await (await ask(body)).text()) === second ? true : undefined,
    )
  })

  test('gets no response older than its maximum age', async () => {
    const body = newRequest()
    await untilCached('cached', () => ask(body))
    await runInDurableObject(cacheOf('cached'), (_instance, { storage }) => {
      storage.sql.exec('UPDATE answers SET at_ms = at_ms - 10000')
    })
    const hit = await ask(body, { 'x-copal-cache-ttl': '60' })
    expect([hit.headers.get('x-copal-cache'), Number(hit.headers.get('age')) >= 10]).toEqual(['hit', true])
    expect((await ask(body, { 'x-copal-cache-ttl': '10' })).headers.get('x-copal-cache')).toBe('miss')
  })

  test('is rejected with an invalid header', async () => {
    for (const [headers, param] of [
      [{ 'x-copal-cache': 'yes' }, 'x-copal-cache'],
      [{ 'x-copal-cache-ttl': '0' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache-ttl': '1.5' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache-ttl': '86401' }, 'x-copal-cache-ttl'],
      [{ 'x-copal-cache': 'false', 'x-copal-cache-ttl': 'soon' }, 'x-copal-cache-ttl'],
    ] as const) {
      const response = await ask(newRequest(), headers)
      expect([response.status, (await errorOf(response)).param]).toEqual([400, param])
    }
  })

  test('runs as if there were no cache while the cache fails', async () => {
    const broken = await createKey({ tenant: 'broken' })
    await runInDurableObject(cacheOf('broken'), (_instance, { storage }) => {
      storage.sql.exec('DROP TABLE answers')
    })
    const response = await ask(newRequest(), {}, broken.key)
    expect([response.status, response.headers.get('x-copal-cache')]).toEqual([200, 'bypass'])
  })

  test('runs as if there were no cache when the cache does not respond in time', async () => {
    const { key } = await createKey({ tenant: 'held' })
    const held = await blockObject(cacheOf('held'))
    const ctx = createExecutionContext()
    const request = new Request(`${ORIGIN}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'x-copal-cache': 'true' },
      body: JSON.stringify(newRequest()),
    })
    const response = await createApp().request(request, {}, { ...env, COPAL_CACHE_LOOKUP_MS: '50' }, ctx)
    expect([response.status, response.headers.get('x-copal-cache')]).toEqual([200, 'bypass'])
    await held.release()
    await waitOnExecutionContext(ctx)
  })
})

describe('nothing is cached', () => {
  test('for a request that does not ask for it', async () => {
    const body = newRequest()
    for (const header of [undefined, 'false']) {
      const headers: Record<string, string> = header === undefined ? {} : { 'x-copal-cache': header }
      const response = await post(cached.key, '/v1/chat/completions', body, { headers })
      expect(response.headers.get('x-copal-cache')).toBeNull()
    }
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('miss')
  })

  test('for a request that samples tokens without a seed', async () => {
    for (const fields of [{ temperature: 0.7 }, { temperature: null }]) {
      const body = newRequest(fields)
      for (let again = 0; again < 2; again += 1) {
        const before = await calls()
        const response = await ask(body)
        expect([response.status, response.headers.get('x-copal-cache')]).toEqual([200, 'bypass'])
        expect(await calls()).toBe(before + 1)
      }
    }
  })

  test('for a request that fails', async () => {
    const message = {
      error: { message: 'too long', type: 'x', param: null, code: 'context_length_exceeded' },
    }
    const failing = await startNode('cache-failing', [
      { kind: 'answer', status: 400, body: JSON.stringify(message) },
      { kind: 'answer', body: '{"ok":1}' },
    ])
    await sendHeartbeat(failing, 'failing')
    const body = newRequest({ model: 'failing' })
    expect((await ask(body)).status).toBe(400)
    const second = await untilCached('cached', () => ask(body))
    expect([second.status, second.headers.get('x-copal-cache')]).toEqual([200, 'miss'])
    expect(await (await ask(body)).text()).toBe('{"ok":1}')
  })

  test('for a response that a limit of the key made shorter than requested', async () => {
    const limits = { tokens_per_minute: 2_000 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    const body = newRequest({ max_tokens: undefined })
    const before = (await cacheOf('cached').stats()).answers
    await (await ask(body, {}, made.key)).text()
    const unlimited = await untilCached('cached', () => ask(body))
    expect(unlimited.headers.get('x-copal-cache')).toBe('miss')
    expect((await cacheOf('cached').stats()).answers).toBe(before + 1)
  })
})

import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { ResponseCache } from '../../../../gateway/src/inference/cache/response-cache.ts'
import { cacheOf, newRequest, useCachedNode } from '../../support/doubles/cached-node.ts'
import {
  sendHeartbeat,
  createKey,
  ORIGIN,
  post,
  signedPost,
  until,
} from '../../support/requests/gateway-requests.ts'
import { blockObject } from '../../support/faults/held-object.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import type { NodeStep } from '../../support/doubles/node-script.ts'

const cached = useCachedNode()
const { ask } = cached

describe('an equal request at the same time', () => {
  /** A response that takes long enough for other requests to arrive meanwhile. */
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
  /** Registers a new model on a node with this script. */
  const serve = async (model: string, steps: NodeStep[]) => {
    const double = await startNode(`cache-${model}`, steps)
    await sendHeartbeat(double, model)
    return { double, body: newRequest({ model }), count: async () => (await double.calls()).length }
  }
  const called = (count: () => Promise<number>) =>
    until('a call', async () => ((await count()) > 0 ? true : undefined))
  /** Counts the requests that wait for a leader from now on. Returns how to wait for a number of them. */
  const followers = () => {
    const waiting = vi.spyOn(ResponseCache.prototype, 'awaitLeader')
    onTestFinished(() => waiting.mockRestore())
    return (count: number) =>
      until('the other requests', async () => waiting.mock.calls.length >= count || undefined)
  }
  const statusOf = (response: Response) => `${response.status} ${response.headers.get('x-copal-cache')}`

  test('shares one generation within a tenant', async () => {
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

  test('runs by itself if the leader fails', async () => {
    const { body, count, double } = await serve('merged-failure', [
      { ...slow(0, 400), held: true },
      slow(1),
      slow(2),
    ])
    const arrived = followers()
    const first = ask(body)
    await called(count)
    const others = [ask(body), ask(body)]
    await arrived(2)
    await double.release()
    expect((await first).status).toBe(400)
    expect((await Promise.all(others)).map(statusOf)).toEqual(['200 miss', '200 miss'])
    expect(await count()).toBe(3)
  })

  test('is generated once more for all others if the leader’s client disconnects', async () => {
    const { body, count } = await serve('merged-left', [{ kind: 'hang' }, slow(1), slow(2)])
    const arrived = followers()
    const abort = new AbortController()
    const options = { headers: { 'x-copal-cache': 'true' } }
    const first = post(cached.key, '/v1/chat/completions', body, { ...options, signal: abort.signal })
    first.catch(() => undefined)
    await called(count)
    const others = Array.from({ length: 3 }, () => ask(body))
    const second = new AbortController()
    const leaving = post(cached.key, '/v1/chat/completions', body, { ...options, signal: second.signal })
    leaving.catch(() => undefined)
    await arrived(4)
    second.abort()
    abort.abort()
    const answers = await Promise.all(others)
    expect(answers.map(statusOf).sort()).toEqual(['200 hit', '200 hit', '200 miss'])
    expect(await count()).toBe(2)
  })

  test('does not wait for a leader whose look-up had timed out', async () => {
    const { body } = await serve('merged-late', [slow(1), slow(2)])
    const held = await blockObject(env.FLEET.get(env.FLEET.idFromName('fleet')))
    const ctx = createExecutionContext()
    const request = new Request(`${ORIGIN}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${cached.key}`, 'x-copal-cache': 'true' },
      body: JSON.stringify(body),
    })
    const gaveUp = vi.spyOn(console, 'error').mockImplementation(() => undefined)
    onTestFinished(() => gaveUp.mockRestore())
    const first = createApp().request(request, {}, { ...env, COPAL_CACHE_LOOKUP_MS: '50' }, ctx)
    await until('it to be given up', async () => gaveUp.mock.calls.length > 0 || undefined)
    await held.release()
    expect(statusOf(await first)).toBe('200 bypass')
    const late = new Promise((resolve) => setTimeout(() => resolve('it waits'), 50_000))
    expect(await Promise.race([ask(body).then(statusOf), late])).toBe('200 miss')
    await waitOnExecutionContext(ctx)
  })

  test('waits for a streamed response until its node has reported it', async () => {
    const chunks = ['data: {"n":1}\n\n', 'data: [DONE]\n\n']
    const { double, body, count } = await serve('merged-stream', [
      { kind: 'stream', chunks, held: true, pauseMs: 200, ending: 'end' },
    ])
    const arrived = followers()
    const asked = { ...body, stream: true }
    const begun = ask(asked)
    await called(count)
    const others = [ask(asked), ask(asked)]
    await arrived(2)
    // Without timers they wait for as long as the report takes.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    await double.release()
    const first = await begun
    expect(await first.text()).toBe(chunks.join(''))
    const { cache, tenant } = JSON.parse((await double.calls())[0]?.body ?? '') as ChatCall
    const given = { ...cache, tenant, nodeId: double.id, maskVersion: 0 }
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

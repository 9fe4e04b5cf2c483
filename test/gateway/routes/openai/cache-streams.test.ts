import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { newRequest, shownHeaders, useCachedNode } from '../../support/doubles/cached-node.ts'
import { sendHeartbeat, createKey, post, signedPost } from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'

const cached = useCachedNode()
const { ask } = cached

describe('a stream', () => {
  const chunks = ['data: {"n":1}\n\n', 'data: {"n":2}\n\n', 'data: [DONE]\n\n']
  const body = () => newRequest({ model: 'streaming', stream: true })
  let streaming: NodeDouble
  beforeAll(async () => {
    streaming = await startNode('cache-stream', [{ kind: 'stream', chunks, ending: 'end' }])
  })
  beforeEach(() => sendHeartbeat(streaming, 'streaming'))
  const lastCall = async () => JSON.parse((await streaming.calls()).at(-1)?.body ?? '') as ChatCall
  /** Reports a complete response, as its node does after a stream. */
  const giveAgain = async ({ cache, tenant = '' }: ChatCall, changes: Partial<CachedResponse> = {}) =>
    signedPost('/internal/nodes/answers', {
      ...cache,
      tenant,
      nodeId: streaming.id,
      maskVersion: 0,
      contentType: 'text/event-stream; charset=utf-8',
      body: chunks.join(''),
      ...changes,
    })

  test('is cached when its node reports it, and is then replayed unchanged', async () => {
    const asked = body()
    const first = await ask(asked, { 'x-copal-cache-ttl': '600' })
    expect(first.headers.get('x-copal-cache')).toBe('miss')
    expect(await first.text()).toBe(chunks.join(''))
    const call = await lastCall()
    const hex = expect.stringMatching(/^[0-9a-f]{64}$/) as string
    expect(call.cache).toEqual({ key: hex, ttlMs: 600_000, attestation: hex })
    expect((await ask(asked)).headers.get('x-copal-cache')).toBe('miss')
    expect((await giveAgain(call)).status).toBe(200)
    const before = (await streaming.calls()).length
    const hit = await ask(asked)
    expect(shownHeaders(hit)).toEqual([
      'hit',
      '0',
      'cache-stream',
      'default',
      'text/event-stream; charset=utf-8',
    ])
    expect(hit.headers.get('cache-control')).toBe('no-cache')
    expect(await hit.text()).toBe(chunks.join(''))
    expect((await streaming.calls()).length).toBe(before)
    const stranger = await createKey({ tenant: 'another' })
    expect((await ask(asked, {}, stranger.key)).headers.get('x-copal-cache')).toBe('miss')
  })

  test('is cached under the mask that generated it', async () => {
    const asked = body()
    await (await ask(asked)).text()
    await giveAgain(await lastCall(), { maskVersion: 7 })
    expect((await ask(asked)).headers.get('x-copal-cache')).toBe('miss')
    const named = await ask({ ...asked, model: 'streaming@mask-7' })
    expect(shownHeaders(named).slice(0, 2)).toEqual(['hit', '7'])
  })

  test('is not requested from the node if nothing is to be cached or a limit may have shortened it', async () => {
    await (await post(cached.key, '/v1/chat/completions', body())).text()
    expect(await lastCall()).not.toHaveProperty('keep')
    await (await ask(newRequest({ model: 'streaming', stream: true, temperature: 1 }))).text()
    expect(await lastCall()).not.toHaveProperty('keep')
    const limits = { tokens_per_minute: 2_000 }
    const made = await adminJson<CreatedKey>('POST', '/keys', { name: 'x', tenant: 'cached', limits })
    await (await ask({ ...body(), max_tokens: undefined }, {}, made.key)).text()
    expect(await lastCall()).not.toHaveProperty('keep')
  })

  test('is accepted only from nodes, and within bounds', async () => {
    await (await ask(body())).text()
    const call = await lastCall()
    const forged = {
      ...call.cache,
      tenant: 'cached',
      nodeId: 'x',
      maskVersion: 0,
      contentType: 'x',
      body: 'x',
    }
    expect((await signedPost('/internal/nodes/answers', forged, { secret: 'none' })).status).toBe(401)
    expect((await giveAgain(call, { body: 'x'.repeat(1024 * 1024 + 1) })).status).toBe(400)
    expect((await giveAgain(call, { key: 'a key' })).status).toBe(400)
  })
})

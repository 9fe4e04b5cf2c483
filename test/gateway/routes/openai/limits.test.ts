import { env } from 'cloudflare:workers'
import {
  createExecutionContext,
  evictDurableObject,
  runDurableObjectAlarm,
  runInDurableObject,
  waitOnExecutionContext,
} from 'cloudflare:test'
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { sumChargedTokens } from '../../../../gateway/src/storage/db/queries/usage-day-queries.ts'
import { RESERVATION_MS } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import type { AccountRecord, Reservation } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  ORIGIN,
  post,
  receiptOf,
  signedPost,
  until,
} from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey, sortedStatuses } from '../../support/requests/limited-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'

const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
let node: NodeDouble
beforeAll(async () => {
  node = await startNode('limits-1', [{ kind: 'answer', body: '{"ok":1}' }])
})
// A node without a heartbeat for long gets no requests.
beforeEach(() => sendHeartbeat(node, 'tiny'))

const lastCall = async () => JSON.parse((await node.calls()).at(-1)?.body ?? '') as ChatCall

/** Settles a completed request with these tokens, as its node would. */
async function settle(response: Response, tokens: number): Promise<void> {
  const requestId = response.headers.get('x-request-id') ?? ''
  const receipts = [receiptOf(requestId, { promptTokens: tokens, completionTokens: 0 })]
  await signedPost('/internal/nodes/receipts', { nodeId: node.id, receipts })
}

/** Returns everything that the ledger stores. */
async function stored() {
  await fleet().saveCounts()
  return runInDurableObject(fleet(), async (_fleet, { storage }) => ({
    accounts: await storage.list<AccountRecord>({ prefix: 'account:' }),
    holds: await storage.list<Reservation>({ prefix: 'hold:' }),
  }))
}

describe('requests a minute', () => {
  test('are shown in OpenAI’s headers, and rejected beyond the limit in OpenAI’s error shape', async () => {
    stopClock()
    const { key } = await createLimitedKey({ requests_per_minute: 2, tokens_per_minute: 1_000 })
    const first = await ask(key)
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'x-ratelimit-limit-requests': '2',
      'x-ratelimit-remaining-requests': '1',
      'x-ratelimit-reset-requests': expect.stringMatching(/^1m[01]s$/) as string,
      'x-ratelimit-limit-tokens': '1000',
      'x-ratelimit-remaining-tokens': '900',
      'x-ratelimit-reset-tokens': expect.stringMatching(/^1m[01]s$/) as string,
    })
    expect((await ask(key)).headers.get('x-ratelimit-remaining-requests')).toBe('0')
    const calls = (await node.calls()).length
    const refused = await ask(key)
    expect(refused.status).toBe(429)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
    // A second counts until a minute after its end, but OpenAI's client for Node waits less than a minute.
    expect(Number(refused.headers.get('retry-after'))).toBeLessThan(60)
    expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0')
    expect(refused.headers.get('x-should-retry')).toBeNull()
    expect(await errorOf(refused)).toEqual({
      code: 'rate_limit_exceeded',
      type: 'rate_limit_error',
      param: null,
      message: expect.stringMatching(
        /^This key may send 2 requests a minute\. Try again in \d+ s\.$/,
      ) as string,
    })
    expect(await node.calls()).toHaveLength(calls)
  })

  test('are limited exactly across many concurrent isolates', async () => {
    const { key } = await createLimitedKey({ requests_per_minute: 10 })
    const isolates = [createApp(), createApp(), createApp(), createApp()]
    const ctx = createExecutionContext()
    const body = JSON.stringify({ model: 'tiny', prompt: 'x', max_tokens: 1 })
    const headers = { authorization: `Bearer ${key}` }
    const calls = Array.from({ length: 40 }, async (_, index) => {
      const isolate = isolates[index % isolates.length] ?? createApp()
      const response = await isolate.request('/v1/completions', { method: 'POST', headers, body }, env, ctx)
      await response.text()
      return response.status
    })
    const got = await Promise.all(calls)
    await waitOnExecutionContext(ctx)
    expect(got.filter((status) => status === 200)).toHaveLength(10)
    expect(got.filter((status) => status === 429)).toHaveLength(30)
  })

  test('of all keys of a tenant count for the tenant, and not for other tenants', async () => {
    await adminJson('PUT', '/tenants/busy', { limits: { requests_per_minute: 3 } })
    await adminJson('PUT', '/tenants/calm', { limits: { requests_per_minute: 3 } })
    const [a, b] = [
      await createLimitedKey({}, { tenant: 'busy' }),
      await createLimitedKey({}, { tenant: 'busy' }),
    ]
    const other = await createLimitedKey({}, { tenant: 'calm' })
    expect(await sortedStatuses([ask(a.key), ask(b.key), ask(a.key), ask(b.key), ask(a.key)])).toEqual([
      200, 200, 200, 429, 429,
    ])
    const refused = await ask(b.key)
    expect((await errorOf(refused)).message).toContain("This key's tenant may send 3 requests a minute")
    const response = await ask(other.key)
    expect([response.status, response.headers.get('x-ratelimit-remaining-requests')]).toEqual([200, '2'])
  })
})

describe('tokens', () => {
  test('are reserved until the receipt settles the actual usage, once', async () => {
    const { id, key } = await createLimitedKey({ tokens_per_minute: 250, tokens_per_month: 10_000 })
    const [first, second] = [await ask(key), await ask(key)]
    const refused = await ask(key)
    expect(refused.status).toBe(429)
    expect((await errorOf(refused)).message).toMatch(
      /^This request may use 100 tokens, prompt and output together; of 250 a minute, this key has 50 left\./,
    )
    await settle(first, 30)
    await settle(first, 30)
    await settle(second, 30)
    expect((await ask(key)).headers.get('x-ratelimit-remaining-tokens')).toBe('90')
    expect((await stored()).accounts.get(`account:key:${id}`)?.spent).toBe(60)
  })

  test('of a request that can never fit are rejected without a retry', async () => {
    const { key } = await createLimitedKey({ tokens_per_minute: 50 })
    const refused = await ask(key)
    expect([refused.status, refused.headers.get('x-should-retry')]).toEqual([429, 'false'])
    expect(refused.headers.get('retry-after')).toBeNull()
    expect((await errorOf(refused)).message).toContain("Lower 'max_tokens', or shorten the prompt")
  })

  test('of a chat without a bound are bounded by the remaining tokens', async () => {
    const chat = { model: 'tiny', messages: [{ role: 'user', content: 'x'.repeat(40) }] }
    const { key } = await createLimitedKey({ tokens_per_minute: 1_000 })
    // Ten tokens for the text, and one for the role.
    expect((await post(key, '/v1/chat/completions', chat)).status).toBe(200)
    expect((await lastCall()).request).toEqual({ ...chat, max_tokens: 989 })
    const { key: free } = await createKey()
    await post(free, '/v1/chat/completions', chat)
    expect((await lastCall()).request).toEqual(chat)
  })

  test('are reserved for each of several choices, and once for the prompt', async () => {
    const { key } = await createLimitedKey({ tokens_per_minute: 1_000 })
    const left = async (response: Promise<Response>) =>
      Number((await response).headers.get('x-ratelimit-remaining-tokens'))
    expect(await left(ask(key, { n: 3 }))).toBe(1_000 - 10 - 3 * 90)
    const prompts = ['x'.repeat(40), 'y'.repeat(40)]
    expect(await left(ask(key, { prompt: prompts, n: 2 }))).toBe(720 - 20 - 4 * 90)
    const input = ['x'.repeat(40), 'y'.repeat(40)]
    expect(await left(post(key, '/v1/embeddings', { model: 'tiny', input }))).toBe(340 - 20)
  })

  test('of the Responses API without a bound are bounded by the remaining tokens, in its own field', async () => {
    const { key } = await createLimitedKey({ tokens_per_minute: 1_000 })
    const asked = { model: 'tiny', input: 'x'.repeat(40) }
    expect((await post(key, '/v1/responses', asked)).status).toBe(200)
    expect((await lastCall()).request).toEqual({ ...asked, max_output_tokens: 989 })
  })

  test('of a month are rejected as a quota, with the day of its renewal', async () => {
    const { key } = await createLimitedKey({ tokens_per_month: 150 })
    await settle(await ask(key), 100)
    const refused = await ask(key)
    expect(refused.status).toBe(429)
    expect(refused.headers.get('x-should-retry')).toBe('false')
    expect(await errorOf(refused)).toMatchObject({
      code: 'insufficient_quota',
      type: 'insufficient_quota',
      message: expect.stringMatching(
        /^The budget is used up: of 150 tokens a month, this key has 50 left, and this request may use 100\. It is renewed at \d{4}-\d\d-01T00:00:00\.000Z\.$/,
      ) as string,
    })
    expect((await ask(key, { max_tokens: 20 })).status).toBe(200)
  })
})

test('concurrent requests are limited, and a request whose client disconnects makes room', async () => {
  const slow = await startNode('slow-1', [{ kind: 'stream', chunks: ['data: {}\n\n'], ending: 'hang' }])
  await sendHeartbeat(slow, 'slow')
  const { key } = await createLimitedKey({ concurrent_requests: 2 })
  const run = () => ask(key, { model: 'slow', stream: true })
  const running = [await run(), await run()]
  const refused = await run()
  expect([...running, refused].map(({ status }) => status)).toEqual([200, 200, 429])
  expect(await errorOf(refused)).toMatchObject({
    code: 'rate_limit_exceeded',
    message: expect.stringContaining('has 2 requests running, its maximum') as string,
  })
  await running[0]?.body?.cancel()
  const next = await until('a place', async () => {
    await sendHeartbeat(slow, 'slow')
    const response = await run()
    return response.status === 200 ? response : undefined
  })
  expect((await run()).status).toBe(429)
  for (const response of [running[1], next]) await response?.body?.cancel()
})

test('a request whose client disconnects before the response makes room before its receipt', async () => {
  const hanging = await startNode('hangs-1', [{ kind: 'hang' }])
  await sendHeartbeat(hanging, 'hangs')
  const { key } = await createLimitedKey({ concurrent_requests: 1 })
  const client = new AbortController()
  const body = { model: 'hangs', prompt: 'x' }
  const left = post(key, '/v1/completions', body, { signal: client.signal }).catch(() => undefined)
  await expect.poll(() => hanging.calls()).toHaveLength(1)
  expect((await ask(key)).status).toBe(429)
  client.abort()
  await left
  await expect.poll(async () => (await ask(key)).status).toBe(200)
})

test('without limits nothing is counted or stored, and there are no rate-limit headers', async () => {
  const { id, key } = await createKey()
  const response = await ask(key)
  expect([...response.headers.keys()].filter((name) => name.startsWith('x-ratelimit'))).toEqual([])
  await settle(response, 30)
  const { accounts, holds } = await stored()
  expect([...accounts.keys(), ...holds.keys()].filter((name) => name.includes(id))).toEqual([])
  expect(holds.has(`hold:${response.headers.get('x-request-id')}`)).toBe(false)
})

describe('a request that fails', () => {
  const remaining = async (key: string) => {
    await sendHeartbeat(node, 'tiny')
    const response = await ask(key, { max_tokens: 1, prompt: 'x' })
    return ['requests', 'tokens'].map((unit) => response.headers.get(`x-ratelimit-remaining-${unit}`))
  }

  test('without a node is not counted', async () => {
    const { key } = await createLimitedKey({ requests_per_minute: 10, tokens_per_minute: 1_000 })
    expect((await ask(key, { model: 'nobody-serves-it' })).status).toBe(404)
    expect(await remaining(key)).toEqual(['9', '998'])
  })

  test('on its node is charged no tokens, however often it was retried', async () => {
    const dropping = await startNode('drops-1', [{ kind: 'drop' }])
    await sendHeartbeat(dropping, 'drops')
    const { id, key } = await createLimitedKey({ requests_per_minute: 10, tokens_per_minute: 1_000 })
    expect((await ask(key, { model: 'drops' })).status).toBe(503)
    await until('the reservation to be given back', async () =>
      [...(await stored()).holds.values()].some(({ accounts }) => accounts.includes(`key:${id}`))
        ? undefined
        : true,
    )
    expect(await remaining(key)).toEqual(['8', '998'])
  })

  test('because its response is too large is charged by its receipt and not retried', async () => {
    const chunks = [' '.repeat(1024 * 1024)]
    const large = await startNode('large-1', [
      { kind: 'stream', headers: { 'content-type': 'application/json' }, chunks, times: 10, ending: 'end' },
    ])
    await sendHeartbeat(large, 'too-large')
    const { id, key } = await createLimitedKey({ tokens_per_month: 1_000 })
    const refused = await ask(key, { model: 'too-large' })
    expect(refused.status).toBe(400)
    expect(await errorOf(refused)).toMatchObject({
      code: 'invalid_request',
      message:
        'The response is larger than 8 MiB, the maximum without streaming. Stream it, or ask for fewer choices, ' +
        'tokens, log-probabilities or embeddings, or for base64 embeddings.',
    })
    expect(await large.calls()).toHaveLength(1)
    await settle(refused, 70)
    expect((await stored()).accounts.get(`account:key:${id}`)?.spent).toBe(70)
  })

  test('on one node, and whose client leaves while it waits for another, is charged no tokens at once', async () => {
    const dropping = await startNode('left-1', [{ kind: 'drop' }])
    await sendHeartbeat(dropping, 'left')
    const { id, key } = await createLimitedKey({ requests_per_minute: 10, tokens_per_month: 1_000 })
    const controller = new AbortController()
    const body = { model: 'left', prompt: 'x'.repeat(40), max_tokens: 90 }
    const pending = post(key, '/v1/completions', body, { signal: controller.signal }).catch(() => undefined)
    const held = async () =>
      [...(await stored()).holds.values()].find(({ accounts }) => accounts.includes(`key:${id}`))
    await until('the second try', async () => ((await held())?.leaseId.endsWith('.2') ? true : undefined))
    controller.abort()
    await pending
    await until('the reservation to be given back', async () => ((await held()) ? undefined : true))
    expect((await stored()).accounts.get(`account:key:${id}`)).toMatchObject({ spent: 0 })
  })

  test('on one node and succeeds on another is counted once and settled by the second node’s receipt', async () => {
    const dying = await startNode('twice-1', [{ kind: 'drop' }])
    const well = await startNode('twice-2', [{ kind: 'answer', body: '{}' }])
    await sendHeartbeat(dying, 'twice')
    await sendHeartbeat(well, 'twice', {
      load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
    })
    const { id, key } = await createLimitedKey({ requests_per_minute: 10, tokens_per_month: 1_000 })
    const response = await ask(key, { model: 'twice' })
    expect(response.headers.get('x-ratelimit-remaining-requests')).toBe('9')
    const requestId = response.headers.get('x-request-id') ?? ''
    const receipts = [
      receiptOf(requestId, { promptTokens: 70, completionTokens: 0, finishReason: 'cancelled' }),
      receiptOf(`${requestId}.2`, { promptTokens: 10, completionTokens: 5 }),
    ]
    await signedPost('/internal/nodes/receipts', { nodeId: 'twice-2', receipts })
    expect((await stored()).accounts.get(`account:key:${id}`)?.spent).toBe(15)
  })
})

test('usage and reservations survive a restart of the Durable Object', async () => {
  const { id, key } = await createLimitedKey({ requests_per_minute: 3, tokens_per_month: 1_000 })
  const [first, second] = [await ask(key), await ask(key)]
  await settle(first, 40)
  await fleet().saveCounts()
  await evictDurableObject(fleet())
  await sendHeartbeat(node, 'tiny')
  const third = await ask(key, { max_tokens: 840 })
  expect([third.status, third.headers.get('x-ratelimit-remaining-requests')]).toEqual([200, '0'])
  await settle(second, 10)
  await settle(third, 850)
  // This time without an explicit save.
  await until('the counts to be stored', async () =>
    runInDurableObject(fleet(), async (_fleet, { storage }) => {
      const record = await storage.get<AccountRecord>(`account:key:${id}`)
      return record?.spent === 900 ? true : undefined
    }),
  )
  await evictDurableObject(fleet())
  await sendHeartbeat(node, 'tiny')
  const refused = await ask(key, { max_tokens: 91 })
  expect((await errorOf(refused)).code).toBe('insufficient_quota')
})

test('a reservation whose receipt never arrives is settled with an estimate, also if its client left before the node responded', async () => {
  const silent = await startNode('silent-1', [{ kind: 'hang' }])
  await sendHeartbeat(silent, 'silent')
  const { id, key } = await createLimitedKey({ tokens_per_month: 1_000 })
  const { id: leftId, key: leftKey } = await createLimitedKey({ tokens_per_month: 1_000 })
  const response = await ask(key)
  const controller = new AbortController()
  // The client's signal itself: workerd would pass it on only once the response has begun.
  const request = new Request(`${ORIGIN}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${leftKey}` },
    body: JSON.stringify({ model: 'silent', prompt: 'x'.repeat(40), max_tokens: 90 }),
    signal: controller.signal,
  })
  const ctx = createExecutionContext()
  const left = createApp().request(request, {}, env, ctx)
  await expect.poll(() => silent.calls()).toHaveLength(1)
  controller.abort()
  expect((await left).status).toBe(499)
  await waitOnExecutionContext(ctx)
  const spent = async (of = id) => (await stored()).accounts.get(`account:key:${of}`)?.spent
  const inReceipts = (of = id) =>
    sumChargedTokens(openDatabase(env.DB), { kind: 'key', name: of }, { fromMs: 0, beforeMs: Date.now() + 1 })
  expect(await spent()).toBe(0)
  const clock = vi.spyOn(Date, 'now')
  onTestFinished(() => clock.mockRestore())
  clock.mockReturnValue(Date.now() + 2 * RESERVATION_MS)
  // After an interruption of its own, the fleet waits for nodes to send heartbeats again.
  await runDurableObjectAlarm(fleet())
  for (const aheadMs of [20_000, 20_000]) {
    clock.mockReturnValue(Date.now() + aheadMs)
    await runDurableObjectAlarm(fleet())
  }
  expect(await spent()).toBe(10)
  expect(await inReceipts()).toBe(10)
  expect([await spent(leftId), await inReceipts(leftId)]).toEqual([10, 10])
  await settle(response, 30)
  expect(await spent()).toBe(30)
})

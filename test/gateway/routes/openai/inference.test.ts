import { describe, expect, test } from 'vitest'
import type { ChatCall, CompletionCall } from '@copal/shared/wire/node-calls.ts'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { verify, SIGNATURE_HEADER } from '@copal/shared/wire/signature.ts'
import { KEY_PREFIX } from '../../../../gateway/src/keys/key-secret.ts'
import { sendHeartbeat, createKey, errorOf, post, until } from '../../support/requests/gateway-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { TEST_NODE_SECRET } from '../../support/setup/secrets.ts'

const SSE = { 'content-type': 'text/event-stream', 'x-copal-mask': '3' }
const JSON_TYPE = { 'content-type': 'application/json', 'x-copal-mask': '3' }
const EVENTS = ['data: {"a":"héllo"}\n\n', ': keep-alive\n\n', 'data: {"b":1}\n\n', 'data: [DONE]\n\n']

const chatOf = (model: string) => ({ model, messages: [{ role: 'user', content: 'Hello.' }] })

describe('a response that is not streamed', () => {
  test('is relayed with headers that name mask, node, domain and request', async () => {
    const { key } = await createKey({ defaultDomain: 'legal' })
    const body = '{"id":"chatcmpl-1","choices":[]}'
    const node = await startNode('whole-1', [{ kind: 'answer', headers: JSON_TYPE, body }])
    await sendHeartbeat(node, 'whole')
    const response = await post(key, '/v1/chat/completions', {
      ...chatOf('whole'),
      temperature: 0,
      unknown_field: 1,
    })
    expect(response.status).toBe(200)
    expect(await response.text()).toBe(body)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/json',
      'x-copal-mask': '3',
      'x-copal-node': 'whole-1',
      'x-copal-domain': 'legal',
      'x-request-id': expect.stringMatching(/^req_/) as string,
    })
  })

  test('reaches the node as a signed call with the parsed request and a trace', async () => {
    const { id, key } = await createKey()
    const node = await startNode('call-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
    await sendHeartbeat(node, 'call')
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const response = await post(
      key,
      '/v1/completions',
      { model: 'call', prompt: 'Once', max_tokens: 5, secret: 'x' },
      { headers: { traceparent, 'x-copal-domain': 'code' } },
    )
    const [call] = await node.calls()
    if (!call) throw new Error('the node was not called')
    expect(call.path).toBe('/rpc/completions')
    const body = JSON.parse(call.body) as CompletionCall
    expect(body).toEqual({
      requestId: response.headers.get('x-request-id'),
      account: id,
      attestation: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      tenant: 'default',
      domain: 'code',
      sample: false,
      request: { model: 'call', prompt: 'Once', max_tokens: 5 },
    })
    const signed = {
      nodeId: 'call-1',
      to: 'node',
      method: 'POST',
      path: call.path,
      body: new Uint8Array(new TextEncoder().encode(call.body)),
    } as const
    const secret = await nodeSecret(TEST_NODE_SECRET, 'call-1')
    await verify([secret], signed, call.headers[SIGNATURE_HEADER], Date.now())
    // Without a collector the gateway has no span of its own between the client's and the node's.
    expect(call.headers.traceparent).toBe(traceparent)
  })

  test('is requested from a node without revealing the API key', async () => {
    const { key } = await createKey()
    const node = await startNode('keyless-1', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
    await sendHeartbeat(node, 'keyless')
    const headers = { 'x-api-key': key }
    const response = await post(key, '/v1/chat/completions', chatOf('keyless'), { headers })
    expect(response.status).toBe(200)
    const [call] = await node.calls()
    expect(call?.headers).not.toHaveProperty('authorization')
    expect(JSON.stringify(call)).not.toContain(key.slice(KEY_PREFIX.length))
  })

  test('is a 502 or 503, never half a body, if the node breaks off', async () => {
    const { key } = await createKey()
    const node = await startNode('cut-1', [
      {
        kind: 'stream',
        headers: { ...JSON_TYPE, 'content-length': '100' },
        chunks: ['{"id":'],
        ending: 'destroy',
      },
    ])
    await sendHeartbeat(node, 'cut')
    const response = await post(key, '/v1/chat/completions', chatOf('cut'))
    expect(response.status).toBe(503)
    expect(await errorOf(response)).toMatchObject({ code: 'no_node_available' })
  })
})

describe('a stream', () => {
  test('is relayed byte for byte', async () => {
    const { key } = await createKey()
    const node = await startNode('stream-1', [
      { kind: 'stream', headers: SSE, chunks: EVENTS, pauseMs: 20, ending: 'end' },
    ])
    await sendHeartbeat(node, 'stream')
    const response = await post(key, '/v1/chat/completions', { ...chatOf('stream'), stream: true })
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-cache',
      'x-accel-buffering': 'no',
      'x-copal-mask': '3',
    })
    expect(await response.text()).toBe(EVENTS.join(''))
  })

  test('with an event of one megabyte arrives complete', async () => {
    const { key } = await createKey()
    const large = `data: ${'x'.repeat(1_000_000)}\n\n`
    const node = await startNode('large-1', [
      { kind: 'stream', headers: SSE, chunks: [large, 'data: [DONE]\n\n'], ending: 'end' },
    ])
    await sendHeartbeat(node, 'large')
    const response = await post(key, '/v1/completions', { model: 'large', prompt: 'x', stream: true })
    expect(await response.text()).toBe(`${large}data: [DONE]\n\n`)
  })

  test('ends with an error event and no [DONE] if the node breaks off', async () => {
    const { key } = await createKey()
    const node = await startNode('break-1', [
      { kind: 'stream', headers: SSE, chunks: EVENTS.slice(0, 3), ending: 'destroy' },
    ])
    await sendHeartbeat(node, 'break')
    const response = await post(key, '/v1/chat/completions', { ...chatOf('break'), stream: true })
    expect(response.status).toBe(200)
    const text = await response.text()
    expect(text.startsWith(EVENTS.slice(0, 3).join(''))).toBe(true)
    expect(text).not.toContain('[DONE]')
    const last = text.trimEnd().split('\n\n').at(-1) ?? ''
    expect(JSON.parse(last.replace(/^data: /, ''))).toEqual({
      error: {
        message: "The connection to node 'break-1' broke before its response was complete. Try again.",
        type: 'server_error',
        param: null,
        code: 'node_failed',
      },
    })
    expect(await node.calls()).toHaveLength(1)
  })

  test('of the Responses API ends with an error event of that API, which OpenAI’s clients throw, if the node breaks off', async () => {
    const { key } = await createKey()
    const begun = 'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n'
    const node = await startNode('respond-1', [
      { kind: 'stream', headers: SSE, chunks: [begun], ending: 'destroy' },
    ])
    await sendHeartbeat(node, 'respond')
    const response = await post(key, '/v1/responses', { model: 'respond', input: 'x', stream: true })
    const text = await response.text()
    expect(text.startsWith(begun)).toBe(true)
    const last = text.trimEnd().split('\n\n').at(-1) ?? ''
    const [, data = ''] = /^event: error\ndata: (.*)$/.exec(last) ?? []
    const told = {
      code: 'node_failed',
      message: "The connection to node 'respond-1' broke before its response was complete. Try again.",
      param: null,
    }
    expect(JSON.parse(data)).toEqual({ type: 'error', ...told, error: { type: 'server_error', ...told } })
    expect((await node.calls())[0]?.path).toBe('/rpc/responses')
  })

  test('is aborted on the node when the client disconnects', async () => {
    const { key } = await createKey()
    const node = await startNode('leave-1', [
      { kind: 'stream', headers: SSE, chunks: EVENTS.slice(0, 1), ending: 'hang' },
    ])
    await sendHeartbeat(node, 'leave')
    const response = await post(key, '/v1/chat/completions', { ...chatOf('leave'), stream: true })
    const reader = response.body?.getReader()
    await reader?.read()
    expect((await node.calls())[0]?.leftAtMs).toBeNull()
    await reader?.cancel()
    await until(
      'the node to see the client leave',
      async () => (await node.calls())[0]?.leftAtMs ?? undefined,
    )
  })
})

describe('a node that fails before its first byte', () => {
  test('is replaced by another, under a request id of its own', async () => {
    const { key } = await createKey()
    const steps = [{ kind: 'drop' as const }]
    const dying = await startNode('dies-1', steps)
    const well = await startNode('dies-2', [{ kind: 'stream', headers: SSE, chunks: EVENTS, ending: 'end' }])
    // The busier node is called second.
    await sendHeartbeat(dying, 'dies')
    await sendHeartbeat(well, 'dies', {
      load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
    })
    const response = await post(key, '/v1/chat/completions', { ...chatOf('dies'), stream: true })
    expect(response.headers.get('x-copal-node')).toBe('dies-2')
    expect(await response.text()).toBe(EVENTS.join(''))
    const ids = [...(await dying.calls()), ...(await well.calls())].map(
      ({ body }) => (JSON.parse(body) as ChatCall).requestId,
    )
    const requestId = response.headers.get('x-request-id')
    expect(ids).toEqual([requestId, `${requestId}.2`])
  })

  test('is replaced even after it sent headers', async () => {
    const { key } = await createKey()
    const dying = await startNode('headers-1', [
      { kind: 'stream', headers: SSE, chunks: [], ending: 'destroy' },
    ])
    const well = await startNode('headers-2', [
      { kind: 'stream', headers: SSE, chunks: EVENTS, ending: 'end' },
    ])
    await sendHeartbeat(dying, 'headers')
    await sendHeartbeat(well, 'headers', {
      load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
    })
    const response = await post(key, '/v1/chat/completions', { ...chatOf('headers'), stream: true })
    expect(await response.text()).toBe(EVENTS.join(''))
  })

  test('gets the same request again once it is back', async () => {
    const goOn = stopClock()
    const { key } = await createKey()
    const node = await startNode('back-1', [
      { kind: 'drop' },
      { kind: 'answer', headers: JSON_TYPE, body: '{"ok":1}' },
    ])
    await sendHeartbeat(node, 'back')
    const pending = post(key, '/v1/chat/completions', chatOf('back'))
    await until('the first try', async () => ((await node.calls()).length === 1 ? true : undefined))
    // A heartbeat from before the failure was noticed does not count. The request waits for one however long it takes.
    const answered = pending.then(() => true)
    const pause = () => new Promise<false>((resolve) => setTimeout(resolve, 100, false))
    while (!(await Promise.race([answered, pause()]))) {
      goOn(1)
      await sendHeartbeat(node, 'back')
    }
    const response = await pending
    expect(await response.text()).toBe('{"ok":1}')
  })

  test('without a replacement is a 503 with Retry-After', async () => {
    const { key } = await createKey()
    const node = await startNode('alone-1', [{ kind: 'drop' }])
    await sendHeartbeat(node, 'alone')
    await node.kill()
    const response = await post(key, '/v1/chat/completions', chatOf('alone'))
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(await errorOf(response)).toMatchObject({ code: 'no_node_available', type: 'server_error' })
    const again = await post(key, '/v1/chat/completions', chatOf('alone'))
    expect(again.status).toBe(503)
  })

  test('is not replaced if the client has disconnected', async () => {
    const { key } = await createKey()
    const node = await startNode('gone-1', [{ kind: 'hang' }])
    await sendHeartbeat(node, 'gone')
    const controller = new AbortController()
    const pending = post(key, '/v1/chat/completions', chatOf('gone'), { signal: controller.signal }).catch(
      () => undefined,
    )
    await until('the call', async () => ((await node.calls()).length === 1 ? true : undefined))
    controller.abort()
    await pending
    await until(
      'the node to see the client leave',
      async () => (await node.calls())[0]?.leftAtMs ?? undefined,
    )
    expect(await node.calls()).toHaveLength(1)
  })
})

describe('an error from the node', () => {
  const nodeError = (code: string, message: string, param: string | null = null) =>
    JSON.stringify({ error: { code, message, type: 'x', param } })

  test('about the request is relayed to the client', async () => {
    const { key } = await createKey()
    const body = nodeError(
      'context_length_exceeded',
      'The prompt has 3000 tokens; the context holds 2048.',
      'messages',
    )
    const node = await startNode('long-1', [{ kind: 'answer', status: 400, headers: JSON_TYPE, body }])
    await sendHeartbeat(node, 'long')
    const response = await post(key, '/v1/chat/completions', chatOf('long'))
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toEqual({
      code: 'context_length_exceeded',
      message: 'The prompt has 3000 tokens; the context holds 2048.',
      type: 'invalid_request_error',
      param: 'messages',
    })
    expect(await node.calls()).toHaveLength(1)
  })

  test('about its load sends the request to another node, or is a 429 if there is none', async () => {
    const { key } = await createKey()
    const full = await startNode('full-1', [
      { kind: 'answer', status: 429, body: nodeError('overloaded', 'The queue is full.') },
    ])
    const free = await startNode('full-2', [{ kind: 'answer', headers: JSON_TYPE, body: '{}' }])
    await sendHeartbeat(full, 'full')
    await sendHeartbeat(free, 'full', {
      load: { running: 5, waiting: 0, kvTokensUsed: 0, kvTokensTotal: 4096 },
    })
    expect((await post(key, '/v1/chat/completions', chatOf('full'))).headers.get('x-copal-node')).toBe(
      'full-2',
    )
    await sendHeartbeat(free, 'full', { draining: true })
    await sendHeartbeat(full, 'full')
    const refused = await post(key, '/v1/chat/completions', chatOf('full'))
    expect(refused.status).toBe(429)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  })

  test('about the signature is logged for the operator, and is no authentication error of the client', async () => {
    const { key } = await createKey()
    const body = nodeError('invalid_signature', 'The signature does not match.')
    const node = await startNode('secret-1', [{ kind: 'answer', status: 401, headers: JSON_TYPE, body }])
    await sendHeartbeat(node, 'secret')
    const response = await post(key, '/v1/chat/completions', chatOf('secret'))
    expect(response.status).toBe(502)
    expect((await errorOf(response)).message).toContain("rejected the gateway's signature")
  })

  test('that is not in the error shape is a 502', async () => {
    const { key } = await createKey()
    const node = await startNode('proxy-1', [
      { kind: 'answer', status: 500, headers: { 'content-type': 'text/html' }, body: '<h1>Oops</h1>' },
    ])
    await sendHeartbeat(node, 'proxy')
    const response = await post(key, '/v1/chat/completions', chatOf('proxy'))
    expect(response.status).toBe(502)
    const { message } = await errorOf(response)
    expect(message).toContain('HTTP 500')
    expect(message).not.toContain('Oops')
  })
})

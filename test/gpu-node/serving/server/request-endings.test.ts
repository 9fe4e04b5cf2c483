import { request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import { LATE_HEADER } from '@copal/shared/wire/node-calls.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { HIDDEN_SIZE } from '../../../support/doubles/arithmetic-backend.ts'
import { arithmeticNodes, CHAT, json, PROMPT } from '../../../support/doubles/arithmetic-node.ts'
import { call, NODE_ID, NODE_SECRET, readEvents } from '../../../support/processes/in-process-node.ts'
import { WAIT } from '../../../support/harness/wait.ts'

const nodes = arithmeticNodes()
const { start } = nodes
const isChunk = (event: unknown): event is ChatCompletionChunk =>
  typeof event === 'object' && event !== null && 'choices' in event

test('a client that disconnects from its stream ends the request within a step, with a receipt', async () => {
  const { node, backend } = await start({ arithmetic: { onStep: () => sleep(10) } })
  const abort = new AbortController()
  const response = await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200, stream: true }), {
    signal: abort.signal,
  })
  const reader = response.body?.getReader()
  await reader?.read()
  abort.abort()
  const [receipt] = await node.untilReceipts(1)
  expect(receipt).toMatchObject({ finishReason: 'cancelled', maskVersion: 7 })
  expect(receipt?.completionTokens).toBeLessThan(100)
  const plans = backend.plans.length
  await vi.waitFor(() => expect(node.engine.load()).toMatchObject({ running: 0, kvTokensUsed: 0 }), WAIT)
  await sleep(100)
  expect(backend.plans.length).toBeLessThanOrEqual(plans + 2)
})

test('a client that disconnects before its response, or while it waits, ends the request too', async () => {
  const { node } = await start({
    arithmetic: { onStep: () => sleep(10) },
    engine: { policy: { maxRunning: 1 } },
  })
  const abort = new AbortController()
  const whole = node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200 }), { signal: abort.signal })
  const waits = node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200, stream: true }), {
    signal: abort.signal,
  })
  while (node.engine.load().running + node.engine.load().waiting < 2) await sleep(5)
  abort.abort()
  await expect(whole).rejects.toThrow(/abort/)
  await expect(waits).rejects.toThrow(/abort/)
  const receipts = await node.untilReceipts(2)
  expect(receipts.map((receipt) => receipt.finishReason)).toEqual(['cancelled', 'cancelled'])
})

test('weights that fail after the first token end the stream with one JSON error and no [DONE]', async () => {
  const { node, backend, active } = await start({ arithmetic: { onStep: () => sleep(2) } })
  const response = await node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 200, stream: true }))
  expect(response.status).toBe(200)
  const reading = readEvents(response)
  // The second step is planned when the first has given its token.
  await vi.waitFor(() => expect(backend.plans.length).toBeGreaterThan(1), WAIT)
  backend.kill(active)
  const events = await reading
  expect(events.at(-1)).toMatchObject({ error: { code: 'node_failed', type: 'server_error' } })
  expect(events).not.toContain('[DONE]')
  expect((await node.untilReceipts(1))[0]).toMatchObject({ finishReason: 'error', errorCode: 'node_failed' })
})

test('output that is not finite is named in the receipt, with the mask that the call named', async () => {
  const message = "The model's logits are not numbers (token 0). Its weights are damaged."
  const { node, backend } = await start({
    arithmetic: { onStep: () => Promise.reject(new AppError('invalid_output', message)) },
    named: (version) => (version === 9 ? canary : null),
  })
  const canary = backend.weights(9)
  const response = await node.post('/rpc/completions', call(PROMPT, { maskVersion: 9 }))
  expect([response.status, await response.json()]).toMatchObject([502, { error: { code: 'invalid_output' } }])
  expect(await node.untilReceipts(1)).toMatchObject([
    { finishReason: 'error', errorCode: 'invalid_output', maskVersion: 9 },
  ])
})

test('weights that fail before the first token give a 502', async () => {
  const { node } = await start({ arithmetic: { onStep: () => Promise.reject(new Error('lost')) } })
  for (const stream of [true, false]) {
    const response = await node.post('/rpc/completions', call({ ...PROMPT, stream }))
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code: 'node_failed' } })
  }
})

test('a silent stream is kept open with comments', async () => {
  const { node } = await start({ keepAliveMs: 15, arithmetic: { onStep: () => sleep(60) } })
  const events = await readEvents(
    await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 2, stream: true })),
  )
  expect(events).toContain(': keep-alive')
  expect(events.at(-1)).toBe('[DONE]')
})

const STREAMED = { ...CHAT, stream: true }

test('a waiting stream is kept open with comments, and names its mask once it has one', async () => {
  const { node, backend } = await start({
    keepAliveMs: 15,
    engine: { policy: { maxRunning: 1 } },
    arithmetic: { onStep: () => sleep(20) },
  })
  const runs = await node.post('/rpc/chat-completions', call({ ...STREAMED, max_tokens: 200 }))
  const waits = await node.post('/rpc/chat-completions', call(STREAMED, { requestId: 'request-waits' }))
  expect(waits.status).toBe(200)
  expect(waits.headers.get('content-type')).toMatch(/^text\/event-stream/)
  expect(waits.headers.get(LATE_HEADER)).toBe('true')
  expect(waits.headers.get('x-copal-mask')).toBeNull()
  const waiting = node.server.progress().find(({ requestId }) => requestId === 'request-waits')
  expect(waiting).toEqual({ requestId: 'request-waits', promptTokens: 0, completionTokens: 0, idleMs: 0 })
  node.engine.setActive(backend.weights(8))
  await runs.body?.cancel()
  const events = await readEvents(waits)
  expect(events[0]).toBe(': keep-alive')
  expect(events.filter((event) => String(event).startsWith(': mask'))).toEqual([': mask 8'])
  expect([...new Set(events.filter(isChunk).map((chunk) => chunk.system_fingerprint))]).toEqual([
    'copal-tiny-m8',
  ])
  expect(events.at(-1)).toBe('[DONE]')
})

test('a stream whose grammar takes long to compile is kept open with comments; its error is then an event', async () => {
  const compiled = Promise.withResolvers<never>()
  const { node } = await start({ keepAliveMs: 15, grammars: { compile: () => compiled.promise } })
  const asks = { ...STREAMED, response_format: { type: 'json_object' } }
  const response = await node.post('/rpc/chat-completions', call(asks))
  expect(response.headers.get(LATE_HEADER)).toBe('true')
  compiled.reject(new AppError('invalid_request', 'The schema is too large.'))
  const events = await readEvents(response)
  expect(events[0]).toBe(': keep-alive')
  expect(events.at(-1)).toMatchObject({ error: { code: 'invalid_request' } })
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'refused' }])
})

test('a client that disconnects while its stream waits leaves the queue', async () => {
  const { node } = await start({
    keepAliveMs: 15,
    engine: { policy: { maxRunning: 1 } },
    arithmetic: { onStep: () => sleep(20) },
  })
  await node.post('/rpc/chat-completions', call({ ...STREAMED, max_tokens: 200 }))
  const waits = await node.post('/rpc/chat-completions', call(STREAMED, { requestId: 'request-waits' }))
  await waits.body?.cancel()
  expect(await node.untilReceipts(1)).toMatchObject([
    { requestId: 'request-waits', finishReason: 'cancelled', promptTokens: 0 },
  ])
  expect(node.engine.load()).toMatchObject({ running: 1, waiting: 0 })
  expect(node.log.lines).toEqual([])
})

test('swaps during eight streams drop none, and each names one mask', async () => {
  const { node, backend } = await start({ arithmetic: { onStep: () => sleep(4) } })
  const begun = await Promise.all(
    Array.from({ length: 8 }, () =>
      node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 60, stream: true })),
    ),
  )
  node.engine.setActive(backend.weights(8))
  const later = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 60 })),
  )
  expect(later.system_fingerprint).toBe('copal-tiny-m8')
  for (const response of begun) {
    expect(response.headers.get('x-copal-mask')).toBe('7')
    const events = await readEvents(response)
    const chunks = events.filter(isChunk)
    expect([...new Set(chunks.map((chunk) => chunk.system_fingerprint))]).toEqual(['copal-tiny-m7'])
    expect(events.at(-1)).toBe('[DONE]')
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')
    expect(text).not.toBe(later.choices[0]?.message.content)
  }
})

test('a late response that is not streamed is kept open with spaces, and names its mask in the body', async () => {
  const { node } = await start({ keepAliveMs: 15, arithmetic: { onStep: () => sleep(30) } })
  const response = await node.post('/rpc/chat-completions', call(CHAT))
  expect(response.headers.get(LATE_HEADER)).toBe('true')
  expect(response.headers.get('x-copal-mask')).toBeNull()
  const text = await response.text()
  expect(text).toMatch(/^ +\{/)
  expect((JSON.parse(text) as ChatCompletion).system_fingerprint).toMatch(/-m7$/)
})

test('a late response that fails ends with its error', async () => {
  const { node, backend, active } = await start({ keepAliveMs: 15, arithmetic: { onStep: () => sleep(30) } })
  const pending = node.post('/rpc/chat-completions', call(CHAT))
  const response = await pending
  backend.kill(active)
  const text = await response.text()
  expect(text).toMatch(/^ +\{/)
  expect(JSON.parse(text)).toMatchObject({ error: { code: 'node_failed' } })
  // The status was already sent, so only the log informs the operator.
  expect(node.log.lines.join()).toContain('a response broke off')
})

test('a request that takes longer than allowed gives a 504', async () => {
  const { node } = await start({ requestTimeoutMs: 50, arithmetic: { onStep: () => sleep(20) } })
  const response = await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200 }))
  expect(response.status).toBe(504)
  expect(await response.json()).toMatchObject({ error: { code: 'deadline_exceeded' } })
  expect(await node.untilReceipts(1)).toMatchObject([
    { finishReason: 'error', errorCode: 'deadline_exceeded' },
  ])
})

test('an embedding that takes longer than allowed gives a 504, and texts that do together', async () => {
  const config = { ...nodes.model().config, hiddenSize: HIDDEN_SIZE }
  const embed = async (input: string[], limits: Partial<{ maxRunning: number }>, stepMs: number) => {
    const { node } = await start({
      requestTimeoutMs: 200,
      engine: { config, policy: limits },
      arithmetic: { onStep: () => sleep(stepMs) },
    })
    const response = await node.post('/rpc/embeddings', call({ model: 'tiny', input }))
    expect(response.status).toBe(504)
    expect(await response.json()).toMatchObject({
      error: { message: 'The request did not finish within 200 ms.' },
    })
    expect(await node.untilReceipts(1)).toMatchObject([
      { finishReason: 'error', errorCode: 'deadline_exceeded' },
    ])
    expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 })
  }
  await embed(['the cat'], {}, 400)
  await embed(
    Array.from({ length: 32 }, (_, index) => `the cat ${index}`),
    { maxRunning: 1 },
    20,
  )
})

test('a caller that leaves while it sends its body is no error of the node', async () => {
  const { node } = await start()
  const path = '/rpc/completions'
  const body = new TextEncoder().encode(JSON.stringify(call(PROMPT)))
  const signing = await signedHeaders(
    NODE_SECRET,
    { nodeId: NODE_ID, to: 'node', method: 'POST', path, body },
    Date.now(),
  )
  const sent = httpRequest(node.url + path, {
    method: 'POST',
    headers: { ...signing, 'content-length': body.length },
  })
  sent.on('error', () => undefined)
  await new Promise((resolve) => sent.write(body.subarray(0, 10), resolve))
  // The node has read the headers when it waits for the body.
  await sleep(100)
  await new Promise((resolve) => sent.once('close', resolve).destroy())
  const next = await node.post(path, call(PROMPT))
  expect(next.status).toBe(200)
  await next.text()
  await sleep(50)
  expect(node.log.lines).toEqual([])
})

test('the requests that a planned stop ends fail, and the log has one line for all of them', async () => {
  const { node } = await start({ arithmetic: { onStep: () => sleep(10) } })
  const long = { ...PROMPT, max_tokens: 200 }
  const streamed = await node.post('/rpc/completions', call({ ...long, stream: true }))
  const events = readEvents(streamed)
  const whole = node.post('/rpc/completions', call(long))
  while (node.engine.load().running < 2) await sleep(1)
  node.server.prepareClose()
  node.engine.close()
  expect((await events).at(-1)).toMatchObject({
    error: { message: expect.stringContaining('shutting down') },
  })
  expect((await whole).status).toBe(502)
  expect(node.log.lines).toEqual([
    expect.stringMatching(/warn requests .* because the node stops requests=2$/),
  ])
})

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { AppError, type ErrorBody } from '@copal/shared/errors.ts'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import { LATE_HEADER, type KeptAnswer } from '@copal/shared/wire/node-rpc.ts'
import { sign } from '@copal/shared/wire/signature.ts'
import type { WeightSet } from '../../../gpu-node/src/backends/backend.ts'
import { createArithmeticBackend, type ArithmeticOptions } from '../../support/arithmetic-backend.ts'
import { call, OTHER_SECRET, readEvents, startTestNode, type TestNode } from '../../support/node-server.ts'
import { openTinyModel, type TinyModel } from '../../support/tiny-model.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 256 })
})
afterAll(() => tiny.remove())

const running: TestNode[] = []
afterEach(async () => {
  for (const node of running.splice(0)) await node.close()
})

type Options = Omit<Parameters<typeof startTestNode>[0], 'backend' | 'model'> & {
  arithmetic?: ArithmeticOptions
}

/** A node on the arithmetic backend, version 7 active and dense beside it. */
async function start({ arithmetic, ...options }: Options = {}) {
  const backend = createArithmeticBackend({ vocabSize: tiny.model.config.vocabSize, ...arithmetic })
  const dense = backend.weights(0)
  const node = await startTestNode({ backend, model: tiny.model, dense: () => dense, ...options })
  running.push(node)
  const active = backend.weights(7)
  node.engine.setActive(active)
  return { backend, node, active, dense }
}

const CHAT = {
  model: 'tiny',
  messages: [{ role: 'user', content: 'the cat sat on the mat' }],
  max_tokens: 24,
  seed: 1,
}
const PROMPT = { model: 'tiny', prompt: 'the cat sat on the mat and it is there', max_tokens: 24, seed: 1 }
const json = async <T>(response: Response) => (await response.json()) as T
const isChunk = (event: unknown): event is ChatCompletionChunk =>
  typeof event === 'object' && event !== null && 'choices' in event

test('a chat answers in the shape of OpenAI and names its mask, node and domain', async () => {
  const { node } = await start()
  const response = await node.post('/rpc/chat-completions', call(CHAT, { requestId: 'request-abc' }))
  expect(response.status).toBe(200)
  expect(Object.fromEntries(response.headers)).toMatchObject({
    'content-type': 'application/json',
    'x-copal-mask': '7',
    'x-copal-node': 'node-under-test',
    'x-copal-domain': 'legal',
  })
  const body = await json<ChatCompletion>(response)
  expect(body).toEqual({
    id: 'chatcmpl-request-abc',
    object: 'chat.completion',
    created: expect.any(Number),
    model: 'tiny',
    system_fingerprint: 'copal-tiny-m7',
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: expect.any(String), refusal: null },
        logprobs: null,
        finish_reason: expect.stringMatching(/^(stop|length)$/),
      },
    ],
    usage: {
      prompt_tokens: expect.any(Number),
      completion_tokens: 24,
      total_tokens: expect.any(Number),
      prompt_tokens_details: { cached_tokens: 0 },
    },
  })
  const rendered = tiny.model.codec.encode(tiny.model.codec.renderChat(CHAT.messages))
  expect(body.usage.prompt_tokens).toBe(rendered.length)
  expect(Math.abs(body.created - Date.now() / 1000)).toBeLessThan(60)
})

test('a streamed chat begins with the role, brings the same text, a reason, the usage asked for, and [DONE]', async () => {
  const { node } = await start()
  const whole = await json<ChatCompletion>(await node.post('/rpc/chat-completions', call(CHAT)))
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...CHAT, stream: true, stream_options: { include_usage: true } }),
  )
  expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
  expect(response.headers.get('x-copal-mask')).toBe('7')
  const events = await readEvents(response)
  expect(events.at(-1)).toBe('[DONE]')
  const chunks = events.filter(isChunk)
  expect(chunks).toHaveLength(events.length - 1)
  expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' })
  expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
    whole.choices[0]?.message.content,
  )
  expect(chunks.at(-2)?.choices[0]).toMatchObject({
    delta: {},
    finish_reason: whole.choices[0]?.finish_reason,
  })
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).toBe(true)
  expect(new Set(chunks.map((chunk) => `${chunk.id} ${chunk.system_fingerprint} ${chunk.object}`)).size).toBe(
    1,
  )
})

test('a stream without include_usage has no usage field', async () => {
  const { node } = await start()
  const events = await readEvents(await node.post('/rpc/chat-completions', call({ ...CHAT, stream: true })))
  expect(events.filter(isChunk).every((chunk) => !('usage' in chunk) && chunk.choices.length === 1)).toBe(
    true,
  )
})

test('a completion answers whole and streamed with the same text, 16 tokens by default', async () => {
  const { node } = await start()
  const { max_tokens: _, ...request } = PROMPT
  const whole = await json<Completion>(await node.post('/rpc/completions', call(request)))
  expect(whole).toMatchObject({
    object: 'text_completion',
    usage: { completion_tokens: 16 },
    choices: [{ logprobs: null }],
  })
  const events = await readEvents(await node.post('/rpc/completions', call({ ...request, stream: true })))
  const texts = events.slice(0, -1).map((event) => (event as Completion).choices[0]?.text)
  expect(texts.join('')).toBe(whole.choices[0]?.text)
  expect((events.at(-2) as Completion).choices[0]?.finish_reason).toBe('length')
})

test('a prompt of token ids is the same as its text', async () => {
  const { node } = await start()
  const text = await json<Completion>(await node.post('/rpc/completions', call(PROMPT)))
  const ids = tiny.model.codec.encode(PROMPT.prompt)
  const tokens = await json<Completion>(await node.post('/rpc/completions', call({ ...PROMPT, prompt: ids })))
  expect(tokens.choices).toEqual(text.choices)
})

test('the same seed gives the same text, another seed another, none a fresh one each time', async () => {
  const { node } = await start()
  const text = async (seed: number | undefined) => {
    const { seed: _, ...rest } = PROMPT
    const body = await json<Completion>(
      await node.post('/rpc/completions', call(seed === undefined ? rest : { ...rest, seed })),
    )
    return body.choices[0]?.text
  }
  expect(await text(5)).toBe(await text(5))
  expect(await text(5)).not.toBe(await text(6))
  expect(await text(5)).not.toBe(await text(5 + 2 ** 32))
  expect(await text(undefined)).not.toBe(await text(undefined))
})

test('log-probabilities come in the shape of each API', async () => {
  const { node } = await start()
  const chat = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ ...CHAT, logprobs: true, top_logprobs: 2 })),
  )
  const content = chat.choices[0]?.logprobs?.content ?? []
  expect(content).toHaveLength(24)
  expect(Buffer.concat(content.map((token) => Buffer.from(token.bytes))).toString()).toContain(
    chat.choices[0]?.message.content?.slice(0, 3),
  )
  const completion = await json<Completion>(
    await node.post('/rpc/completions', call({ ...PROMPT, logprobs: 0 })),
  )
  const logprobs = completion.choices[0]?.logprobs
  expect(logprobs?.tokens).toHaveLength(24)
  expect(logprobs?.token_logprobs.every((value) => value === -0.5)).toBe(true)
  expect(logprobs?.text_offset[0]).toBe(0)
  expect(logprobs?.text_offset).toEqual(logprobs?.text_offset.toSorted((a, b) => a - b))
})

test('a stop string cuts the answer and its stream alike', async () => {
  const { node } = await start()
  const full =
    (await json<Completion>(await node.post('/rpc/completions', call(PROMPT)))).choices[0]?.text ?? ''
  const stop = Array.from(full).slice(8, 11).join('')
  const cut = await json<Completion>(await node.post('/rpc/completions', call({ ...PROMPT, stop })))
  expect(cut.choices[0]).toMatchObject({ text: full.slice(0, full.indexOf(stop)), finish_reason: 'stop' })
  const events = await readEvents(
    await node.post('/rpc/completions', call({ ...PROMPT, stop: ['never', stop], stream: true })),
  )
  expect(
    events
      .slice(0, -1)
      .map((event) => (event as Completion).choices[0]?.text)
      .join(''),
  ).toBe(cut.choices[0]?.text)
})

test('a receipt names the account of its call, of a refused one too', async () => {
  const { node } = await start()
  await (await node.post('/rpc/completions', call(PROMPT, { account: 'key_1' }))).text()
  await (await node.post('/rpc/completions', call({ ...PROMPT, model: 'x' }, { account: 'key_2' }))).text()
  await (await node.post('/rpc/completions', call(PROMPT))).text()
  const receipts = await node.receiptCount(3)
  expect(receipts.map(({ account }) => account)).toEqual(['key_1', 'key_2', undefined])
})

test('every ending gives one receipt with its counts', async () => {
  const { node } = await start()
  await (await node.post('/rpc/completions', call(PROMPT, { requestId: 'request-whole' }))).text()
  await (
    await node.post('/rpc/completions', call({ ...PROMPT, stream: true }, { requestId: 'request-stream' }))
  ).text()
  await (
    await node.post('/rpc/completions', call({ ...PROMPT, model: 'other' }, { requestId: 'request-refused' }))
  ).text()
  const receipts = await node.receiptCount(3)
  const promptTokens = tiny.model.codec.encode(PROMPT.prompt).length
  const done = {
    model: 'tiny',
    domain: 'legal',
    maskVersion: 7,
    promptTokens,
    completionTokens: 24,
    finishReason: 'length',
    drift: null,
  }
  expect(receipts).toMatchObject([
    { requestId: 'request-whole', ...done },
    { requestId: 'request-stream', ...done },
    {
      requestId: 'request-refused',
      promptTokens: 0,
      completionTokens: 0,
      finishReason: 'error',
      timeToFirstTokenMs: null,
    },
  ])
  for (const { queueMs, timeToFirstTokenMs, totalMs } of receipts.slice(0, 2)) {
    expect(queueMs).toBeGreaterThanOrEqual(0)
    expect(timeToFirstTokenMs).toBeGreaterThanOrEqual(queueMs)
    expect(totalMs).toBeGreaterThanOrEqual(timeToFirstTokenMs ?? 0)
  }
})

test('a streamed answer that shall be kept is given as its client got it, once it is whole', async () => {
  const answers: KeptAnswer[] = []
  const { node } = await start({
    onAnswer: (answer) => answers.push(answer),
    arithmetic: { onStep: () => sleep(2) },
  })
  const keep = { key: 'c'.repeat(64), ttlMs: 60_000 }
  const asked = { tenant: 'acme', keep }
  const streamed = { ...CHAT, stream: true }
  const text = await (await node.post('/rpc/chat-completions', call(streamed, asked))).text()
  expect(text).toContain('[DONE]')
  expect(answers.splice(0)).toEqual([
    {
      ...keep,
      tenant: 'acme',
      nodeId: 'node-under-test',
      maskVersion: 7,
      contentType: 'text/event-stream; charset=utf-8',
      body: text,
    },
  ])
  // Without a wish or a tenant, not streamed, or left by its client: nothing.
  await (await node.post('/rpc/chat-completions', call(streamed, { tenant: 'acme' }))).text()
  await (await node.post('/rpc/chat-completions', call(streamed, { keep }))).text()
  await (await node.post('/rpc/chat-completions', call(CHAT, asked))).text()
  const leave = new AbortController()
  const long = call({ ...streamed, max_tokens: 200 }, asked)
  const left = await node.post('/rpc/chat-completions', long, { signal: leave.signal })
  await left.body?.getReader().read()
  leave.abort()
  await node.receiptCount(5)
  expect(answers).toEqual([])
})

test("a sampled request's receipt holds the client's text scored under the mask and under dense, and the client does not wait", async () => {
  let gate: PromiseWithResolvers<void> | undefined = Promise.withResolvers()
  const onStep = async (plan: { work: readonly { output: string }[] }) => {
    if (plan.work.some((work) => work.output === 'nll')) await gate?.promise
  }
  const { node, active, dense } = await start({ arithmetic: { onStep } })
  const messages = [
    { role: 'system', content: 'be brief and not scored' },
    { role: 'user', content: 'the first thing that the client says here' },
    { role: 'assistant', content: 'an answer that is not scored' },
    { role: 'user', content: [{ type: 'text', text: 'and the second thing' }] },
  ]
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...CHAT, messages }, { sample: true, requestId: 'request-sampled' }),
  )
  expect((await json<ChatCompletion>(response)).usage.completion_tokens).toBe(24)
  expect(node.receipts).toHaveLength(0)
  expect(node.server.underWay()).toMatchObject([
    { requestId: 'request-sampled', completionTokens: 24, idleMs: 0 },
  ])
  gate.resolve()
  gate = undefined
  const [receipt] = await node.receiptCount(1)
  await node.server.settled()
  const tokens = tiny.model.codec.encode('the first thing that the client says here\n\nand the second thing')
  const sum = (values: Float32Array) => values.reduce((total, value) => total + value, 0)
  expect(receipt?.drift?.tokens).toBe(tokens.length - 1)
  expect(receipt?.drift?.nllMasked).toBeCloseTo(sum(await node.engine.score({ weights: active, tokens })), 2)
  expect(receipt?.drift?.nllDense).toBeCloseTo(sum(await node.engine.score({ weights: dense, tokens })), 2)
  expect(receipt?.drift?.nllMasked).not.toBe(receipt?.drift?.nllDense)
})

test('a sampled text that is too short, or without dense weights, or not scored in time, leaves drift empty', async () => {
  const short = await start()
  await (
    await short.node.post('/rpc/completions', call({ ...PROMPT, prompt: 'hi' }, { sample: true }))
  ).text()
  const bare = await start({ dense: () => null })
  await (await bare.node.post('/rpc/completions', call(PROMPT, { sample: true }))).text()
  const onStep = async (plan: { work: readonly { output: string }[] }) => {
    if (plan.work.some((work) => work.output === 'nll')) await sleep(200)
  }
  const slow = await start({ arithmetic: { onStep }, scoreTimeoutMs: 20 })
  await (await slow.node.post('/rpc/completions', call(PROMPT, { sample: true }))).text()
  for (const { node } of [short, bare, slow]) {
    expect((await node.receiptCount(1))[0]).toMatchObject({ finishReason: 'length', drift: null })
  }
})

test('a client that leaves its stream ends the request within a step, with a receipt', async () => {
  const { node, backend } = await start({ arithmetic: { onStep: () => sleep(10) } })
  const abort = new AbortController()
  const response = await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200, stream: true }), {
    signal: abort.signal,
  })
  const reader = response.body?.getReader()
  await reader?.read()
  abort.abort()
  const [receipt] = await node.receiptCount(1)
  expect(receipt).toMatchObject({ finishReason: 'cancelled', maskVersion: 7 })
  expect(receipt?.completionTokens).toBeLessThan(100)
  const plans = backend.plans.length
  await sleep(100)
  expect(backend.plans.length).toBeLessThanOrEqual(plans + 2)
  expect(node.engine.load()).toMatchObject({ running: 0, kvTokensUsed: 0 })
})

test('a client that leaves before a whole answer, or while it waits, ends the request too', async () => {
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
  const receipts = await node.receiptCount(2)
  expect(receipts.map((receipt) => receipt.finishReason)).toEqual(['cancelled', 'cancelled'])
})

test('weights that die after the first token end the stream with one JSON error and no [DONE]', async () => {
  const { node, backend, active } = await start({ arithmetic: { onStep: () => sleep(2) } })
  const response = await node.post('/rpc/chat-completions', call({ ...CHAT, max_tokens: 200, stream: true }))
  expect(response.status).toBe(200)
  const reading = readEvents(response)
  await sleep(20)
  backend.kill(active)
  const events = await reading
  expect(events.at(-1)).toMatchObject({ error: { code: 'node_failed', type: 'server_error' } })
  expect(events).not.toContain('[DONE]')
  expect((await node.receiptCount(1))[0]).toMatchObject({ finishReason: 'error' })
})

test('weights that die before the first token are a 502', async () => {
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

test('swaps under eight streams: none is dropped, each names one mask', async () => {
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

test('bad calls are refused with an OpenAI error that names what is wrong', async () => {
  const { node } = await start()
  const post = async (path: string, value: unknown, options?: Parameters<typeof node.post>[2]) => {
    const response = await node.post(path, value, options)
    const body = await json<{ error: Record<string, unknown> }>(response)
    expect(Object.keys(body.error)).toEqual(['message', 'type', 'param', 'code'])
    return { status: response.status, ...body.error }
  }
  const chat = (request: object, fields?: object) =>
    post('/rpc/chat-completions', call({ ...CHAT, ...request }, fields))
  expect(await post('/rpc/chat-completions', null, { body: '{"a":' })).toMatchObject({
    status: 400,
    code: 'invalid_request',
  })
  expect(await post('/rpc/chat-completions', null, { body: '[]' })).toMatchObject({ status: 400 })
  expect(await chat({ messages: [] })).toMatchObject({ status: 400, param: 'request.messages' })
  expect(await chat({ temperature: 'hot' })).toMatchObject({ status: 400, param: 'request.temperature' })
  expect(await chat({ top_logprobs: 2 })).toMatchObject({ status: 400, param: 'request.top_logprobs' })
  expect(await chat({ model: 'gpt' })).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' })
  expect(await chat({}, { domain: 'Legal!' })).toMatchObject({ status: 400, param: 'domain' })
  expect(await chat({ messages: [{ role: 'user', content: 'word '.repeat(300) }] })).toMatchObject({
    status: 400,
    code: 'context_length_exceeded',
    message: expect.stringMatching(/256 tokens and the prompt has \d{3,}/),
  })
  expect(await post('/rpc/completions', call({ ...PROMPT, prompt: [1, 99_999] }))).toMatchObject({
    status: 400,
    param: 'prompt[1]',
  })
  expect(await post('/rpc/completions', call({ ...PROMPT, prompt: [[1], [2, 99_999]] }))).toMatchObject({
    status: 400,
    param: 'prompt[1][1]',
  })
  const embed = (input: unknown) => post('/rpc/embeddings', call({ model: 'tiny', input }))
  expect(await embed([1, 99_999])).toMatchObject({ status: 400, param: 'input[1]' })
  expect(await embed([[99_999], [2]])).toMatchObject({ status: 400, param: 'input[0][0]' })
  expect(await post('/rpc/completions', call({ ...PROMPT, echo: true }))).toMatchObject({
    status: 400,
    param: 'request.echo',
  })
  expect(await post('/rpc/nothing', {})).toMatchObject({ status: 404, code: 'not_found' })
})

test('unsigned and wrongly signed calls, stale ones and those for another node are refused and run nothing', async () => {
  const { node, backend } = await start()
  for (const options of [
    { secret: 'another secret of sixteen bytes' },
    { signature: 'nonsense' },
    { signature: '' },
    { signature: `t=${Date.now() - 10 * 60_000},to=node:node-under-test,v2=${'0'.repeat(64)}` },
    { nodeId: 'another-node' },
  ]) {
    const response = await node.post('/rpc/completions', call(PROMPT), options)
    expect(response.status).toBe(401)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_signature' } })
  }
  expect(backend.plans).toHaveLength(0)
  expect(node.receipts).toHaveLength(0)
})

test('a call opens once: whoever sends it again gets nothing', async () => {
  const { node } = await start()
  const body = JSON.stringify(call(PROMPT))
  const path = '/rpc/completions'
  const bytes = new TextEncoder().encode(body)
  const signed = { nodeId: 'node-under-test', method: 'POST', path, body: bytes }
  const signature = await sign(OTHER_SECRET, signed, Date.now())
  // Signed with the next secret, which is accepted while the other is still in use.
  expect((await node.post(path, {}, { body, signature })).status).toBe(200)
  const again = await node.post(path, {}, { body, signature })
  expect(again.status).toBe(401)
  expect(await json<ErrorBody>(again)).toMatchObject({
    error: { message: 'This call was made before. Sign every call anew.' },
  })
  expect(await node.receiptCount(1)).toHaveLength(1)
})

test('an answer at once that takes long keeps its connection alive with spaces, and names its mask itself', async () => {
  const { node } = await start({ keepAliveMs: 15, arithmetic: { onStep: () => sleep(30) } })
  const response = await node.post('/rpc/chat-completions', call(CHAT))
  expect(response.headers.get(LATE_HEADER)).toBe('true')
  expect(response.headers.get('x-copal-mask')).toBeNull()
  const text = await response.text()
  expect(text).toMatch(/^ +\{/)
  expect((JSON.parse(text) as ChatCompletion).system_fingerprint).toMatch(/-m7$/)
})

test('a late answer that fails ends with its error', async () => {
  const { node, backend, active } = await start({ keepAliveMs: 15, arithmetic: { onStep: () => sleep(30) } })
  const pending = node.post('/rpc/chat-completions', call(CHAT))
  const response = await pending
  backend.kill(active)
  const text = await response.text()
  expect(text).toMatch(/^ +\{/)
  expect(JSON.parse(text)).toMatchObject({ error: { code: 'node_failed' } })
})

test('a body of 10 MB is refused, with and without a declared length', async () => {
  const { node } = await start()
  const body = JSON.stringify(call({ ...PROMPT, prompt: 'x'.repeat(10 * 1024 * 1024) }))
  const declared = await node.post('/rpc/completions', null, { body })
  expect(declared.status).toBe(413)
  expect(await declared.json()).toMatchObject({ error: { code: 'body_too_large' } })
  const chunked = await fetch(`${node.url}/rpc/completions`, {
    method: 'POST',
    body: new ReadableStream({
      start(controller) {
        for (let index = 0; index < 10; index++) controller.enqueue(new Uint8Array(1024 * 1024))
        controller.close()
      },
    }),
    duplex: 'half',
  })
  expect(chunked.status).toBe(413)
})

test('a full queue is a 429 with Retry-After', async () => {
  const { node } = await start({
    engine: { policy: { maxRunning: 1, maxWaiting: 1 } },
    arithmetic: { onStep: () => sleep(20) },
  })
  const responses = await Promise.all(
    Array.from({ length: 4 }, () => node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 3 }))),
  )
  const refused = responses.filter((response) => response.status === 429)
  expect(refused.length).toBeGreaterThan(0)
  for (const response of refused) expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(responses.filter((response) => response.status === 200).length).toBeGreaterThan(1)
})

test('an unexpected failure is a plain 500, its cause only in the log', async () => {
  const { node } = await start({
    evaluateText: () => {
      throw new Error('secret detail')
    },
  })
  const response = await node.post('/rpc/evaluate', { model: 'tiny', maskVersion: 0, text: 'some text' })
  expect(response.status).toBe(500)
  expect(await response.text()).not.toContain('secret detail')
  expect(node.log.lines.join('\n')).toContain('secret detail')
})

test('an evaluation streams its events line by line; a late failure is the last line', async () => {
  const { node } = await start({
    evaluateText: async function* (evaluate) {
      yield { type: 'progress', windowsDone: 1, windowsTotal: 2 }
      if (evaluate.text === 'bad') throw new AppError('mask_invalid', 'The mask is damaged.')
      yield {
        type: 'result',
        tokens: 5,
        windows: 2,
        nllMean: 1,
        perplexity: Math.E,
        maskVersion: evaluate.maskVersion,
      }
    },
  })
  const lines = async (fields: object) => {
    const response = await node.post('/rpc/evaluate', {
      model: 'tiny',
      maskVersion: 7,
      text: 'good',
      ...fields,
    })
    const text = await response.text()
    return {
      status: response.status,
      events: text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as object),
    }
  }
  expect((await lines({})).events).toMatchObject([{ type: 'progress' }, { type: 'result', maskVersion: 7 }])
  expect((await lines({ text: 'bad' })).events).toMatchObject([
    { type: 'progress' },
    { type: 'error', error: { code: 'mask_invalid' } },
  ])
  expect((await lines({ model: 'gpt' })).status).toBe(404)
})

test('a client that leaves an evaluation aborts it', async () => {
  const left = Promise.withResolvers<boolean>()
  const { node } = await start({
    evaluateText: async function* (_, signal) {
      signal.addEventListener('abort', () => left.resolve(signal.aborted))
      yield { type: 'progress', windowsDone: 0, windowsTotal: 1 }
      await left.promise
    },
  })
  const abort = new AbortController()
  const response = await node.post(
    '/rpc/evaluate',
    { model: 'tiny', maskVersion: 0, text: 'x' },
    { signal: abort.signal },
  )
  await response.body?.getReader().read()
  abort.abort()
  expect(await left.promise).toBe(true)
})

test('health tells the model and the mask without a signature', async () => {
  const backend = createArithmeticBackend()
  const node = await startTestNode({ backend, model: tiny.model })
  running.push(node)
  const health = async () => (await fetch(`${node.url}/health`)).json()
  expect(await health()).toEqual({ status: 'ok', model: 'tiny', activeVersion: null, ready: false })
  node.engine.setActive(backend.weights(3) satisfies WeightSet)
  expect(await health()).toEqual({ status: 'ok', model: 'tiny', activeVersion: 3, ready: true })
})

test('a request that takes longer than allowed is a 504', async () => {
  const { node } = await start({ requestTimeoutMs: 50, arithmetic: { onStep: () => sleep(20) } })
  const response = await node.post('/rpc/completions', call({ ...PROMPT, max_tokens: 200 }))
  expect(response.status).toBe(504)
  expect(await response.json()).toMatchObject({ error: { code: 'deadline_exceeded' } })
})

test('a prompt far too long is refused by its beginning, without tokenising all of it', async () => {
  const { node } = await start()
  const encode = vi.spyOn(tiny.model.codec, 'encodeDocument')
  onTestFinished(() => encode.mockRestore())
  const response = await node.post('/rpc/completions', call({ ...PROMPT, prompt: 'word '.repeat(100_000) }))
  expect(await response.json()).toMatchObject({
    error: {
      code: 'context_length_exceeded',
      message: expect.stringMatching(/256 tokens and the prompt has at least \d{3,}/),
    },
  })
  expect(encode.mock.calls.map(([text]) => text.length)).toEqual([2048])
})

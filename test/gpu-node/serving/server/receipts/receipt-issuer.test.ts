import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { ChatCompletion, ChatMessage } from '@copal/shared/wire/chat.ts'
import type { CachedResponse } from '@copal/shared/wire/receipts.ts'
import type { GrammarCompiler } from '../../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { unlessAborted } from '../../../../../gpu-node/src/platform/unless-aborted.ts'
import { chatPrompt } from '../../../../../gpu-node/src/serving/server/prompts/chat-prompt.ts'
import { arithmeticNodes, CHAT, json, PROMPT } from '../../../../support/doubles/arithmetic-node.ts'
import { call } from '../../../../support/processes/in-process-node.ts'

const nodes = arithmeticNodes()
const { start } = nodes

test('a receipt carries the account, the attestation and the mask of its call, also when the call was rejected', async () => {
  const { node } = await start()
  const attestation = 'a'.repeat(64)
  await (await node.post('/rpc/completions', call(PROMPT, { account: 'key_1', attestation }))).text()
  await (
    await node.post(
      '/rpc/completions',
      call({ ...PROMPT, model: 'x' }, { account: 'key_2', attestation, maskVersion: 5 }),
    )
  ).text()
  await (await node.post('/rpc/embeddings', call({ model: 'x', input: 'x' }, { attestation }))).text()
  await (await node.post('/rpc/completions', call(PROMPT))).text()
  const receipts = await node.untilReceipts(4)
  const echoedBy = receipts.map(({ account, attestation: echoed, maskVersion }) => [
    account,
    echoed,
    maskVersion,
  ])
  expect(echoedBy).toEqual([
    ['key_1', attestation, 7],
    ['key_2', attestation, 5],
    [undefined, attestation, 7],
    [undefined, undefined, 7],
  ])
})

test('every outcome gives one receipt with its counts', async () => {
  const { node } = await start()
  await (await node.post('/rpc/completions', call(PROMPT, { requestId: 'request-whole' }))).text()
  await (
    await node.post('/rpc/completions', call({ ...PROMPT, stream: true }, { requestId: 'request-stream' }))
  ).text()
  await (
    await node.post('/rpc/completions', call({ ...PROMPT, model: 'other' }, { requestId: 'request-refused' }))
  ).text()
  const receipts = await node.untilReceipts(3)
  const promptTokens = nodes.model().codec.encode(PROMPT.prompt).length
  const done = {
    model: 'tiny',
    domain: 'legal',
    maskVersion: 7,
    promptTokens,
    completionTokens: 24,
    finishReason: 'length',
    drift: null,
    scoring: 'not_sampled',
  }
  expect(receipts).toMatchObject([
    { requestId: 'request-whole', ...done },
    { requestId: 'request-stream', ...done },
    {
      requestId: 'request-refused',
      promptTokens: 0,
      completionTokens: 0,
      finishReason: 'refused',
      timeToFirstTokenMs: null,
    },
  ])
  for (const { queueMs, timeToFirstTokenMs, totalMs, errorCode } of receipts.slice(0, 2)) {
    expect(errorCode).toBeUndefined()
    expect(queueMs).toBeGreaterThanOrEqual(0)
    expect(timeToFirstTokenMs).toBeGreaterThanOrEqual(queueMs)
    expect(totalMs).toBeGreaterThanOrEqual(timeToFirstTokenMs ?? 0)
  }
})

test('a rejection by the node is reported as refused, a disconnected client as cancelled, and a defect as an error', async () => {
  const client = new AbortController()
  const compile = vi
    .fn<GrammarCompiler['compile']>()
    .mockRejectedValueOnce(new AppError('invalid_request', 'The schema is too large.'))
    .mockRejectedValueOnce(new Error('a defect'))
    .mockImplementationOnce(async (_source, asker) => {
      client.abort()
      return unlessAborted(new Promise(() => undefined), asker?.signal)
    })
    .mockResolvedValueOnce(() => ({
      allowedAfter: () => Promise.reject(new AppError('invalid_request', 'The answer is too costly.')),
      forcedAfter: () => Promise.resolve([]),
      release: () => undefined,
    }))
  const { node } = await start({ grammars: { compile } })
  const asks = { ...CHAT, response_format: { type: 'json_object' } }
  const statusOf = async (request: object, signal = new AbortController().signal) =>
    (await node.post('/rpc/chat-completions', call(request), { signal })).status
  expect(await statusOf({ ...CHAT, messages: [{ role: 'user', content: 'cat '.repeat(400) }] })).toBe(400)
  expect(await statusOf(asks)).toBe(400)
  expect(await statusOf(asks)).toBe(500)
  await expect(statusOf(asks, client.signal)).rejects.toThrow(/abort/)
  await node.untilReceipts(4)
  // One of its two choices is rejected, which ends the other.
  expect(await statusOf({ ...asks, n: 2 })).toBe(400)
  const receipts = await node.untilReceipts(5)
  expect(receipts.map(({ finishReason, errorCode }) => [finishReason, errorCode])).toEqual([
    ['refused', 'context_length_exceeded'],
    ['refused', 'invalid_request'],
    ['error', 'internal_error'],
    ['cancelled', 'client_closed_request'],
    ['refused', 'invalid_request'],
  ])
})

test('a cacheable streamed response is passed on as its client received it, once it is complete', async () => {
  const answers: CachedResponse[] = []
  const { node } = await start({
    onCacheableResponse: (answer) => answers.push(answer),
    arithmetic: { onStep: () => sleep(2) },
  })
  const cache = { key: 'c'.repeat(64), ttlMs: 60_000 }
  const asked = { tenant: 'acme', cache }
  const streamed = { ...CHAT, stream: true }
  const text = await (await node.post('/rpc/chat-completions', call(streamed, asked))).text()
  expect(text).toContain('[DONE]')
  expect(answers.splice(0)).toEqual([
    {
      ...cache,
      tenant: 'acme',
      nodeId: 'node-under-test',
      maskVersion: 7,
      contentType: 'text/event-stream; charset=utf-8',
      body: text,
    },
  ])
  // Nothing without a cache target or a tenant, without streaming, or after the client disconnected.
  await (await node.post('/rpc/chat-completions', call(streamed, { tenant: 'acme' }))).text()
  await (await node.post('/rpc/chat-completions', call(streamed, { cache }))).text()
  await (await node.post('/rpc/chat-completions', call(CHAT, asked))).text()
  const leave = new AbortController()
  const long = call({ ...streamed, max_tokens: 200 }, asked)
  const left = await node.post('/rpc/chat-completions', long, { signal: leave.signal })
  await left.body?.getReader().read()
  leave.abort()
  await node.untilReceipts(5)
  expect(answers).toEqual([])
})

test("a sampled request's receipt holds the scores of the client's text under the mask and under dense, and the client does not wait", async () => {
  let gate: PromiseWithResolvers<void> | undefined = Promise.withResolvers()
  const onStep = async (plan: { work: readonly { output: string }[] }) => {
    if (plan.work.some((work) => work.output === 'nll')) await gate?.promise
  }
  const { node, active, dense } = await start({ arithmetic: { onStep } })
  const messages: ChatMessage[] = [
    { role: 'system', content: 'be brief and not scored' },
    { role: 'user', content: 'the first thing that the client says here' },
    { role: 'assistant', content: 'an answer that is not scored' },
    { role: 'user', content: [{ type: 'text', text: 'and the second thing, which is new' }] },
  ]
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...CHAT, messages }, { sample: true, requestId: 'request-sampled' }),
  )
  expect((await json<ChatCompletion>(response)).usage.completion_tokens).toBe(24)
  expect(node.receipts).toHaveLength(0)
  expect(node.server.progress()).toMatchObject([
    { requestId: 'request-sampled', completionTokens: 24, idleMs: 0 },
  ])
  gate.resolve()
  gate = undefined
  const [receipt] = await node.untilReceipts(1)
  await node.server.settled()
  const { codec } = nodes.model()
  const whole = codec.encode(chatPrompt(codec, { messages }, []))
  const after = codec.encode('<|im_end|>\n<|im_start|>assistant\n').length
  const own = codec.encode('and the second thing, which is new').length
  const tokens = whole.slice(0, -after)
  expect(receipt?.scoring).toBe('scored')
  expect(receipt?.drift?.tokens).toBe(own)
  const sum = (values: Float32Array) => values.slice(-own).reduce((total, value) => total + value, 0)
  expect(receipt?.drift?.nllMasked).toBeCloseTo(
    sum(await node.engine.score({ weights: active, lane: 'drift', tokens })),
    2,
  )
  expect(receipt?.drift?.nllDense).toBeCloseTo(
    sum(await node.engine.score({ weights: dense, lane: 'drift', tokens })),
    2,
  )
  expect(receipt?.drift?.nllMasked).not.toBe(receipt?.drift?.nllDense)
})

test('the new text of each API is scored: the input of a response, a prompt, a prompt of token ids', async () => {
  const { node } = await start()
  const text = 'what the client asks in its own words here'
  const { codec } = nodes.model()
  const own = codec.encode(text).length
  const ask = async (path: string, request: object, requestId: string) =>
    (await node.post(path, call({ model: 'tiny', ...request }, { sample: true, requestId }))).text()
  const history = [
    { role: 'user', content: 'an earlier question of the client' },
    { role: 'assistant', content: 'an earlier answer' },
  ]
  await ask('/rpc/responses', { input: text, instructions: 'be brief' }, 'request-response')
  await ask('/rpc/responses', { input: [...history, { role: 'user', content: text }] }, 'request-later')
  await ask('/rpc/completions', { prompt: text, max_tokens: 2 }, 'request-prompt')
  await ask('/rpc/completions', { prompt: codec.encode(text), max_tokens: 2 }, 'request-tokens')
  const receipts = await node.untilReceipts(4)
  const scored = new Map(
    receipts.map(({ requestId, scoring, drift }) => [requestId, [scoring, drift?.tokens]]),
  )
  expect(Object.fromEntries(scored)).toEqual({
    'request-response': ['scored', own],
    'request-later': ['scored', own],
    // Nothing precedes the first token of a prompt.
    'request-prompt': ['scored', own - 1],
    'request-tokens': ['scored', own - 1],
  })
})

test('drift is empty when a sampled text is too short, dense weights are missing, or scoring takes too long', async () => {
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
  for (const [{ node }, scoring] of [
    [short, 'too_short'],
    [bare, 'failed'],
    [slow, 'budget'],
  ] as const) {
    expect((await node.untilReceipts(1))[0]).toMatchObject({ finishReason: 'length', drift: null, scoring })
  }
})

test('a node that stops issues the receipts of texts that wait or are being scored, and says in one line how many', async () => {
  const gate = Promise.withResolvers<void>()
  const { node } = await start({
    arithmetic: { onStep: async ({ weights }) => void (weights.version === 0 && (await gate.promise)) },
  })
  for (const requestId of ['request-1', 'request-2', 'request-3'])
    await (await node.post('/rpc/completions', call(PROMPT, { sample: true, requestId }))).text()
  node.server.prepareClose()
  node.engine.close()
  await node.server.settled()
  gate.resolve()
  const scores = node.receipts.map(({ requestId, drift, scoring }) => [requestId, { drift, scoring }])
  const unscored = { drift: null, scoring: 'budget' }
  expect(Object.fromEntries(scores)).toEqual({
    'request-1': unscored,
    'request-2': unscored,
    'request-3': unscored,
  })
  expect(node.log.lines).toEqual([
    expect.stringMatching(/sampled texts are left unscored, because the node stops.*texts=3/),
  ])
})

import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { createEventQueues } from '../../../../../gpu-node/src/serving/engine/event-queue.ts'
import type { GenerateEvent } from '../../../../../gpu-node/src/serving/engine/generation-request.ts'
import { philox } from '../../../../../gpu-node/src/serving/sampling/random-draw.ts'
import { startChoices } from '../../../../../gpu-node/src/serving/server/generation/completion-choices.ts'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import {
  createArithmeticBackend,
  type ArithmeticOptions,
} from '../../../../support/doubles/arithmetic-backend.ts'
import {
  call,
  readEvents,
  startTestNode,
  type TestNode,
} from '../../../../support/processes/in-process-node.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'
import { WAIT } from '../../../../support/harness/wait.ts'

let tiny: TinyModel
beforeAll(async () => {
  tiny = await openTinyModel({ contextLength: 256 })
})
afterAll(() => tiny.remove())

const running: TestNode[] = []
afterEach(async () => {
  for (const node of running.splice(0)) await node.close()
})

/** Starts a node with version 7 active, and version 6 and dense weights loaded. */
async function start(
  options: { arithmetic?: ArithmeticOptions; engine?: Parameters<typeof startTestNode>[0]['engine'] } = {},
) {
  const backend = createArithmeticBackend({ vocabSize: tiny.model.config.vocabSize, ...options.arithmetic })
  const sets = new Map([0, 6, 7].map((version) => [version, backend.weights(version)]))
  const node = await startTestNode({
    backend,
    model: tiny.model,
    dense: () => sets.get(0) ?? null,
    named: (version) => sets.get(version) ?? null,
    ...(options.engine ? { engine: options.engine } : {}),
  })
  running.push(node)
  node.engine.setActive(sets.get(7)!)
  return { backend, node }
}

const CHAT = {
  model: 'tiny',
  messages: [{ role: 'user', content: 'the cat sat on the mat' }],
  max_tokens: 20,
  seed: 1,
}
const PROMPT = { model: 'tiny', prompt: 'the cat sat on the mat and it is there', max_tokens: 20, seed: 1 }
const json = async <T>(response: Response) => (await response.json()) as T
const textsOf = ({ choices }: Completion) => choices.map(({ text }) => text)

test('several choices differ, the first equals a single choice, and a seed reproduces all of them', async () => {
  const { node } = await start()
  const chat = async (fields: object) =>
    json<ChatCompletion>(await node.post('/rpc/chat-completions', call({ ...CHAT, ...fields })))
  const three = await chat({ n: 3 })
  expect(three.choices.map(({ index }) => index)).toEqual([0, 1, 2])
  const texts = three.choices.map(({ message }) => message.content)
  expect(new Set(texts).size).toBe(3)
  expect((await chat({})).choices[0]?.message.content).toBe(texts[0])
  expect((await chat({ n: 3 })).choices).toEqual(three.choices)
  expect((await chat({ n: 3, seed: 2 })).choices).not.toEqual(three.choices)
})

test('usage and receipt count the prompt of several choices once and add up their tokens', async () => {
  const { node } = await start()
  const one = await json<ChatCompletion>(await node.post('/rpc/chat-completions', call(CHAT)))
  const three = await json<ChatCompletion>(
    await node.post('/rpc/chat-completions', call({ ...CHAT, n: 3 }, { requestId: 'request-of-three' })),
  )
  const { prompt_tokens: promptTokens } = one.usage
  expect(three.usage).toEqual({
    prompt_tokens: promptTokens,
    completion_tokens: 60,
    total_tokens: promptTokens + 60,
    prompt_tokens_details: { cached_tokens: 0 },
  })
  expect((await node.untilReceipts(2))[1]).toMatchObject({
    requestId: 'request-of-three',
    maskVersion: 7,
    promptTokens,
    completionTokens: 60,
    finishReason: 'length',
  })
  expect(node.receipts).toHaveLength(2)
})

test.each([{ tenant: 'ours' }, {}])(
  'the prompt of several choices is prefilled once, and each choice equals its output alone: %j',
  async (fields) => {
    const { node, backend } = await start()
    const prompt = Array.from({ length: 150 }, (_, index) => index)
    const complete = async (changes: object) => {
      const from = backend.plans.length
      const request = { ...PROMPT, prompt, ...changes }
      const answer = await json<Completion>(await node.post('/rpc/completions', call(request, fields)))
      const work = backend.plans.slice(from).flatMap((plan) => plan.work)
      const fed = work
        .filter(({ position }) => position < prompt.length)
        .reduce((sum, { tokens }) => sum + tokens.length, 0)
      return { texts: textsOf(answer), fed, cached: answer.usage?.prompt_tokens_details.cached_tokens }
    }
    const four = await complete({ n: 4 })
    // Nine pages are full and shared; each choice prefills the rest itself.
    expect(four).toMatchObject({ fed: 150 + 3 * (150 - 144), cached: 0 })
    for (const [choice, text] of four.texts.entries()) {
      const seed = choice === 0 ? PROMPT.seed : philox([choice, 0, 0, 1], [PROMPT.seed, 0])[0]
      expect((await complete({ seed })).texts).toEqual([text])
    }
    // Only requests of the same tenant share the pages.
    expect((await complete({})).cached).toBe('tenant' in fields ? 144 : 0)
  },
)

test('streamed choices are interleaved under their index, each with its role, reason and text', async () => {
  const { node } = await start()
  const request = { ...CHAT, n: 3, logprobs: true }
  const whole = await json<ChatCompletion>(await node.post('/rpc/chat-completions', call(request)))
  const events = await readEvents(
    await node.post(
      '/rpc/chat-completions',
      call({ ...request, stream: true, stream_options: { include_usage: true } }),
    ),
  )
  expect(events.at(-1)).toBe('[DONE]')
  const chunks = events.slice(0, -1) as ChatCompletionChunk[]
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  const indices = chunks.flatMap(({ choices }) => choices.map(({ index }) => index))
  expect(indices.lastIndexOf(0)).toBeGreaterThan(indices.indexOf(2))
  for (const choice of whole.choices) {
    const own = chunks.flatMap(({ choices }) => choices.filter(({ index }) => index === choice.index))
    expect(own[0]?.delta).toEqual({ role: 'assistant', content: '' })
    expect(own.map(({ delta }) => delta.content ?? '').join('')).toBe(choice.message.content)
    expect(own.flatMap(({ logprobs }) => logprobs?.content ?? [])).toEqual(choice.logprobs?.content)
    expect(own.at(-1)?.finish_reason).toBe(choice.finish_reason)
  }
})

test('a list of prompts has choices prompt by prompt, each counted once', async () => {
  const { node } = await start()
  const complete = async (fields: object) =>
    json<Completion>(await node.post('/rpc/completions', call({ ...PROMPT, ...fields })))
  const prompts = ['the cat sat', 'on the mat and it']
  const both = await complete({ prompt: prompts, n: 2, logprobs: 1 })
  expect(both.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
  const first = await complete({ prompt: prompts[0], n: 2 })
  expect(textsOf(first)).toEqual(textsOf(both).slice(0, 2))
  const second = await complete({ prompt: [tiny.model.codec.encodeDocument(prompts[1]!)] })
  expect(both.usage).toMatchObject({
    prompt_tokens: first.usage.prompt_tokens + second.usage.prompt_tokens,
    completion_tokens: 80,
  })
  expect(both.choices.every(({ logprobs }) => logprobs?.text_offset[0] === 0)).toBe(true)
})

test('all choices use one mask although another becomes active between them', async () => {
  const { node, backend } = await start({
    arithmetic: { onStep: () => sleep(3) },
    engine: { policy: { maxRunning: 1 } },
  })
  const pending = node.post('/rpc/chat-completions', call({ ...CHAT, n: 3 }))
  while (node.engine.load().running === 0) await sleep(1)
  node.engine.setActive(backend.weights(8))
  const answer = await json<ChatCompletion>(await pending)
  expect(answer.system_fingerprint).toBe('copal-tiny-m7')
  expect(new Set(backend.plans.map(({ weights }) => weights.version))).toEqual(new Set([7]))
})

test('a request that names a version runs on its weights, whichever version is active', async () => {
  const { node } = await start()
  const completeOn = async (maskVersion: number | undefined) => {
    const response = await node.post(
      '/rpc/completions',
      call(PROMPT, maskVersion === undefined ? {} : { maskVersion }),
    )
    const { choices, system_fingerprint } = await json<Completion>(response)
    return { text: choices[0]?.text, system_fingerprint, header: response.headers.get('x-copal-mask') }
  }
  const active = await completeOn(undefined)
  expect(await completeOn(7)).toEqual(active)
  const older = await completeOn(6)
  expect([older.system_fingerprint, older.header]).toEqual(['copal-tiny-m6', '6'])
  expect(older.text).not.toBe(active.text)
  expect((await completeOn(0)).system_fingerprint).toBe('copal-tiny-m0')
  const receipts = await node.untilReceipts(4)
  expect(receipts.map(({ maskVersion }) => maskVersion)).toEqual([7, 7, 6, 0])
})

test('a version that the node does not hold is a 503 that another node may serve', async () => {
  const { node, backend } = await start()
  const response = await node.post('/rpc/completions', call(PROMPT, { maskVersion: 12 }))
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({
    error: { code: 'no_node_available', param: 'model', message: expect.stringContaining('mask 12 of') },
  })
  expect(backend.plans).toEqual([])
})

test('choices that do not fit the queue are rejected together, leave nothing running and give no receipt', async () => {
  const { node } = await start({
    arithmetic: { onStep: () => sleep(5) },
    engine: { policy: { maxRunning: 1, maxWaiting: 2 } },
  })
  const response = await node.post('/rpc/chat-completions', call({ ...CHAT, n: 5 }))
  expect(response.status).toBe(429)
  expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 })
  await sleep(50)
  expect(node.receipts).toEqual([])
})

test('weights that fail end all choices with one error and one receipt', async () => {
  const { node, backend } = await start({ arithmetic: { onStep: () => sleep(2) } })
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...CHAT, max_tokens: 200, n: 3, stream: true }),
  )
  const reading = readEvents(response)
  await vi.waitFor(() => expect(backend.plans.length).toBeGreaterThan(1), WAIT)
  backend.kill(backend.plans[0]!.weights)
  const events = await reading
  expect(events.at(-1)).toMatchObject({ error: { code: 'node_failed' } })
  expect(events).not.toContain('[DONE]')
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'error' }])
})

test('a client that disconnects ends all choices', async () => {
  const { node } = await start({ arithmetic: { onStep: () => sleep(5) } })
  const abort = new AbortController()
  const request = call({ ...CHAT, max_tokens: 200, n: 4, stream: true })
  const response = await node.post('/rpc/chat-completions', request, { signal: abort.signal })
  await response.body?.getReader().read()
  abort.abort()
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'cancelled' }])
  while (node.engine.load().kvTokensUsed > 0) await sleep(5)
  expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 })
})

test('a bias on a token outside the vocabulary is rejected with its id', async () => {
  const { node } = await start()
  const response = await node.post('/rpc/completions', call({ ...PROMPT, logit_bias: { '99999': 1 } }))
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({
    error: { param: 'logit_bias.99999', message: expect.stringContaining('token 99999') },
  })
})

test('a consumer that stops reading cancels every choice, also those with unread events', async () => {
  const kept = createEventQueues<GenerateEvent>(100)
  const left = vi.fn<() => void>()
  const queues = [kept.open(left), kept.open(left)]
  const generations = queues.values()
  const { promise: outcome } = Promise.withResolvers<never>()
  const engine = { generate: () => ({ events: generations.next().value!.events, outcome }) }
  const abort = new AbortController()
  const sampling = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 1, topLogprobs: -1 }
  const penalties = { presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1 }
  const { events } = startChoices(
    engine,
    { prompts: [[1]], choicesPerPrompt: 2, maxTokens: 5, stops: [], sampling: { ...sampling, ...penalties } },
    { id: 'request-left', restartable: false, weights: null },
    abort,
  )
  for (const queue of queues)
    for (let count = 0; count < 3; count++) queue.push({ type: 'pinned', maskVersion: count })
  await events.next()
  await events.return()
  expect(abort.signal.aborted).toBe(true)
  await vi.waitFor(() => expect(left).toHaveBeenCalledTimes(2), WAIT)
})

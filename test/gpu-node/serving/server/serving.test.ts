import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { ChatCompletion, ChatCompletionChunk } from '@copal/shared/wire/chat.ts'
import type { Completion } from '@copal/shared/wire/completions.ts'
import type { WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createOnnxBackend } from '../../../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import type { ProcessBackend } from '../../../../gpu-node/src/serving/backends/weight-set-process/process-backend.ts'
import type { TokenLogprob } from '../../../../gpu-node/src/serving/engine/generated-text.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import type { EnginePolicy } from '../../../../gpu-node/src/serving/engine/engine-policy.ts'
import type { EngineState } from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { call, readEvents, startTestNode, type TestNode } from '../../../support/processes/in-process-node.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { WAIT } from '../../../support/harness/wait.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'

// The whole serving path on the real backend: a tiny LLaMA in ONNX Runtime, dense and two masks.
let tiny: TinyModel
let backend: ProcessBackend
let node: TestNode
const sets: WeightSet[] = []
let preemptions = 0

function inspect(state: EngineState, policy: EnginePolicy): void {
  checkInvariants(state, policy)
  preemptions += state.requests.filter(
    ({ status, tokens, promptTokens }) => status.kind === 'waiting' && tokens.length > promptTokens,
  ).length
}

beforeAll(async () => {
  // Untied, because a tied random model repeats its last token, and every comparison would be easy.
  tiny = await openTinyModel({ contextLength: 512, tied: false })
  backend = createOnnxBackend({ workDir: join(tiny.dir, 'work'), threads: 1 })
  for (const version of [0, 1, 2]) sets.push(await load(version))
  node = await startTestNode({
    backend,
    model: tiny.model,
    dense: () => sets[0] ?? null,
    named: (version) => sets[version] ?? null,
    engine: { policy: { kvTokens: 512, maxRunning: 8, prefillChunk: 32, maxWaiting: 100 }, inspect },
  })
})
afterAll(async () => {
  await node.close()
  await Promise.all(sets.map((weights) => backend.release(weights)))
  await tiny.remove()
})

async function load(version: number): Promise<WeightSet> {
  const maskPath = version === 0 ? null : join(tiny.dir, `mask-${version}.safetensors`)
  if (maskPath) await writeFile(maskPath, randomHalfMask(tiny.model, version).bytes)
  return backend.load({ model: tiny.model, version, maskPath, priority: 'serving' })
}

function activate(version: number): void {
  node.engine.setActive(sets[version] as WeightSet)
}

const WORDS = [
  'the',
  'cat',
  'sat',
  'on',
  'a',
  'mat',
  'and',
  'it',
  'is',
  'there',
  'to',
  'of',
  'in',
  'hé',
  '🙂',
]

/** Returns a chat whose prompt and length depend on the seed; greedy unless a temperature is given. */
function chat(seed: number, fields: object = {}): { model: string; max_tokens: number } {
  const random = createRandom(seed)
  const words = Array.from(
    { length: 3 + Math.floor(random() * 60) },
    () => WORDS[Math.floor(random() * WORDS.length)],
  )
  const messages = [{ role: 'user', content: words.join(' ') }]
  return {
    model: 'tiny',
    messages,
    temperature: 0,
    max_tokens: 5 + Math.floor(random() * 60),
    ...fields,
  } as never
}

async function whole(request: object): Promise<ChatCompletion> {
  const response = await node.post('/rpc/chat-completions', call(request))
  expect(response.status).toBe(200)
  return (await response.json()) as ChatCompletion
}

async function streamed(request: object) {
  const response = await node.post('/rpc/chat-completions', call({ ...request, stream: true }))
  const events = await readEvents(response)
  expect(events.at(-1)).toBe('[DONE]')
  const chunks = events.slice(0, -1) as ChatCompletionChunk[]
  return {
    header: response.headers.get('x-copal-mask'),
    fingerprints: new Set(chunks.map((chunk) => chunk.system_fingerprint)),
    text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''),
  }
}

test('twenty concurrent responses equal those of each request alone, under a budget that forces preemption', async () => {
  activate(1)
  preemptions = 0
  const seeds = Array.from({ length: 20 }, (_, index) => index)
  const alone: string[] = []
  // Long enough that running requests outgrow the budget, because admission counts only their tokens so far.
  const long = (seed: number) => chat(seed, { max_tokens: 120 })
  for (const seed of seeds) alone.push((await whole(long(seed))).choices[0]?.message.content ?? '')
  const together = await Promise.all(seeds.map((seed) => streamed(long(seed))))
  expect(together.map(({ text }) => text)).toEqual(alone)
  expect(new Set(alone).size).toBeGreaterThan(15)
  expect(alone.join('')).toMatch(/.{200}/s)
  expect(preemptions).toBeGreaterThan(0)
})

test('during swaps under load every response names one mask and equals the output of that mask alone', async () => {
  const seeds = Array.from({ length: 24 }, (_, index) => 100 + index)
  activate(0)
  const answers: ReturnType<typeof streamed>[] = []
  for (const [index, seed] of seeds.entries()) {
    answers.push(streamed(chat(seed, { max_tokens: 40 })))
    if (index % 8 === 7) {
      // One request has ended on the old mask; the others run, or wait for the next mask.
      await Promise.race(answers.slice(-8))
      activate((index + 1) / 8 === 3 ? 0 : (index + 1) / 8)
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const results = await Promise.all(answers)
  const versions = results.map(({ header }) => Number(header))
  expect(new Set(versions).size).toBeGreaterThan(1)
  for (const version of new Set(versions)) {
    activate(version)
    for (const [index, result] of results.entries()) {
      if (versions[index] !== version) continue
      expect(result.fingerprints).toEqual(new Set([`copal-tiny-m${version}`]))
      expect(result.text).toBe(
        (await whole(chat(seeds[index]!, { max_tokens: 40 }))).choices[0]?.message.content,
      )
    }
  }
})

test('the same seed samples the same text alone and beside others, another seed another text', async () => {
  activate(1)
  const request = (seed: number) => chat(4, { temperature: 2, seed, max_tokens: 40 })
  const alone = (await whole(request(5))).choices[0]?.message.content
  const company = Promise.all([1, 2, 3, 4].map((seed) => whole(request(seed))))
  expect((await streamed(request(5))).text).toBe(alone)
  const others = (await company).map((answer) => answer.choices[0]?.message.content)
  expect(new Set([alone, ...others]).size).toBe(5)
})

test('a top_p of 0 leaves the most probable token, whatever the temperature', async () => {
  activate(1)
  const greedy = (await whole(chat(4, { max_tokens: 20 }))).choices[0]?.message.content
  const cut = await whole(chat(4, { max_tokens: 20, temperature: 2, top_k: 7, top_p: 0 }))
  expect(cut.choices[0]?.message.content).toBe(greedy)
})

test('log-probabilities are consistent: the greedy token is the most likely, in both APIs', async () => {
  activate(0)
  const answer = await whole(chat(3, { logprobs: true, top_logprobs: 3, max_tokens: 12 }))
  const content = answer.choices[0]?.logprobs?.content ?? []
  expect(content.length).toBe(answer.usage.completion_tokens)
  for (const token of content) {
    expect(token.top_logprobs).toHaveLength(3)
    expect(token.top_logprobs[0]?.bytes).toEqual(token.bytes)
    expect(token.logprob).toBeCloseTo(token.top_logprobs[0]!.logprob, 5)
    expect(token.logprob).toBeLessThanOrEqual(0)
  }
  const prompt = { model: 'tiny', prompt: 'the cat sat on', temperature: 0, max_tokens: 8, logprobs: 2 }
  const completion = (await (await node.post('/rpc/completions', call(prompt))).json()) as Completion
  const logprobs = completion.choices[0]?.logprobs
  expect(logprobs?.tokens).toHaveLength(8)
  expect(logprobs?.top_logprobs.every((top) => Object.keys(top ?? {}).length === 2)).toBe(true)
})

test("drift in the receipt scores the client's text under the mask and under dense", async () => {
  activate(2)
  const prompt = 'the cat sat on the mat and it is there to the end of the day in the rain'
  const before = node.receipts.length
  const request = { model: 'tiny', prompt, temperature: 0, max_tokens: 4 }
  await (await node.post('/rpc/completions', call(request, { sample: true }))).json()
  const receipt = (await node.untilReceipts(before + 1)).at(-1)
  const tokens = tiny.model.codec.encode(prompt)
  const sumOf = async (weights: WeightSet | undefined) =>
    (await node.engine.score({ weights: weights as WeightSet, lane: 'drift', tokens })).reduce(
      (sum, nll) => sum + nll,
      0,
    )
  expect(receipt).toMatchObject({ maskVersion: 2, drift: { tokens: tokens.length - 1 } })
  expect(receipt?.drift?.nllMasked).toBeCloseTo(await sumOf(sets[2]), 2)
  expect(receipt?.drift?.nllDense).toBeCloseTo(await sumOf(sets[0]), 2)
})

test('output is also scored under the trial mask, streamed or not, and its receipt does not wait for that', async () => {
  activate(1)
  const prompt = 'the cat sat on the mat and it is there to the end of the day in the rain'
  const promptTokens = tiny.model.codec.encode(prompt)
  const request = { model: 'tiny', prompt, temperature: 0, max_tokens: 20 }
  const asked = { sample: true, shadowVersion: 2 }
  const answer = (await (
    await node.post('/rpc/completions', call({ ...request, logprobs: 0 }, asked))
  ).json()) as Completion
  await expect.poll(() => node.server.shadows.pendingScores()).toHaveLength(1)
  await readEvents(await node.post('/rpc/completions', call({ ...request, stream: true }, asked)))
  await expect.poll(() => node.server.shadows.pendingScores()).toHaveLength(2)
  const [atOnce, asStream] = node.server.shadows.pendingScores()
  const choice = answer.choices[0]
  expect(choice?.finish_reason).toBe('length')
  const counted = { tokens: promptTokens.length - 1 }
  expect(atOnce).toMatchObject({
    model: 'tiny',
    domain: 'legal',
    maskVersion: 1,
    shadowVersion: 2,
    prompt: counted,
    answer: { tokens: 20 },
  })
  // Under the mask that generated it, the score of an output is the sum of its log-probabilities.
  const said = choice?.logprobs?.token_logprobs.reduce<number>((sum, logprob) => sum - (logprob ?? NaN), 0)
  expect(atOnce?.answer.nll).toBeCloseTo(said ?? NaN, 2)
  const tokens = [...promptTokens, ...tiny.model.codec.encode(choice?.text ?? '')]
  const nll = await node.engine.score({ weights: sets[2] as WeightSet, lane: 'drift', tokens })
  const sumOf = (part: Float32Array) => part.reduce((sum, value) => sum + value, 0)
  expect(atOnce?.prompt.nllShadow).toBeCloseTo(sumOf(nll.subarray(0, promptTokens.length - 1)), 2)
  expect(atOnce?.answer.nllShadow).not.toBeCloseTo(atOnce?.answer.nll ?? NaN, 2)
  expect(asStream).toEqual({ ...atOnce, requestId: asStream?.requestId })
  node.server.shadows.acknowledge([asStream!])
  expect(node.server.shadows.pendingScores()).toEqual([atOnce])
  node.server.shadows.acknowledge([atOnce!])
})

test('nothing is scored without consent, under a mask that is not loaded, or under the mask that generated the output', async () => {
  activate(1)
  const request = { model: 'tiny', prompt: 'the cat sat on the mat and it is there', max_tokens: 20 }
  const before = node.receipts.length
  for (const fields of [
    { sample: false, shadowVersion: 2 },
    { sample: true },
    { sample: true, shadowVersion: 9 },
    { sample: true, shadowVersion: 1 },
  ])
    await (await node.post('/rpc/completions', call(request, fields))).json()
  await node.untilReceipts(before + 4)
  // Later requests in the queue are scored, so these were skipped.
  await (await node.post('/rpc/completions', call(request, { sample: true, shadowVersion: 0 }))).json()
  await expect.poll(() => node.server.shadows.pendingScores()).toHaveLength(1)
  expect(node.server.shadows.pendingScores()[0]).toMatchObject({ shadowVersion: 0 })
  node.server.shadows.acknowledge(node.server.shadows.pendingScores())
})

test('the score of a text equals the log-probabilities of its tokens when they were generated', async () => {
  activate(1)
  const prompt = tiny.model.codec.encode('the cat sat on the mat')
  const generation = node.engine.generate({
    id: 'request-scored',
    prompt,
    maxTokens: 100,
    stops: [],
    restartable: false,
    sampling: { ...GREEDY, temperature: 1.5, seed: 9, topLogprobs: 0 },
  })
  const generated: TokenLogprob[] = []
  for await (const event of generation.events) if (event.type === 'text') generated.push(...event.tokens)
  expect(generated.length).toBeGreaterThan(4)
  const tokens = [...prompt, ...generated.map(({ token }) => token)]
  const nll = await node.engine.score({ weights: sets[1] as WeightSet, lane: 'drift', tokens })
  const ofGenerated = [...nll.subarray(prompt.length - 1)]
  ofGenerated.forEach((value, index) => expect(value).toBeCloseTo(-generated[index]!.logprob, 3))
})

test('a client that disconnects frees its key/value pages', async () => {
  activate(1)
  const abort = new AbortController()
  const before = node.receipts.length
  const response = await node.post(
    '/rpc/chat-completions',
    call({ ...chat(1), max_tokens: 400, stream: true }),
    {
      signal: abort.signal,
    },
  )
  await response.body?.getReader().read()
  abort.abort()
  expect((await node.untilReceipts(before + 1)).at(-1)).toMatchObject({ finishReason: 'cancelled' })
  await vi.waitFor(
    () => expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0, kvTokensUsed: 0 }),
    WAIT,
  )
})

test('a weight set whose process is killed fails its own streams, and the next one serves again', async () => {
  const doomed = await load(1)
  node.engine.setActive(doomed)
  const onDoomed = node.post('/rpc/chat-completions', call({ ...chat(1), max_tokens: 400, stream: true }))
  const response = await onDoomed
  node.engine.setActive(sets[2] as WeightSet)
  const onOther = streamed(chat(2, { max_tokens: 60 }))
  process.kill(backend.pidOf(doomed) ?? 0, 'SIGKILL')
  const events = await readEvents(response)
  expect(events.at(-1)).toMatchObject({ error: { code: 'node_failed' } })
  expect(events).not.toContain('[DONE]')
  expect((await onOther).fingerprints).toEqual(new Set(['copal-tiny-m2']))
})

test('draining the old mask restarts responses that are not streamed on the new one', async () => {
  activate(1)
  const pending = whole(chat(50, { max_tokens: 300, stop: ['\u0000never'] }))
  while (node.engine.requestsOn(1) === 0) await new Promise((resolve) => setTimeout(resolve, 1))
  activate(2)
  await node.engine.drain(1, 0)
  const answer = await pending
  expect(answer.system_fingerprint).toBe('copal-tiny-m2')
  expect(answer.choices).toEqual((await whole(chat(50, { max_tokens: 300, stop: ['\u0000never'] }))).choices)
})

import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import type { EmbeddingsResponse } from '@copal/shared/wire/embeddings.ts'
import { LATE_HEADER } from '@copal/shared/wire/node-calls.ts'
import type { EnginePolicy } from '../../../../../gpu-node/src/serving/engine/engine-policy.ts'
import {
  createArithmeticBackend,
  HIDDEN_SIZE,
  type ArithmeticOptions,
} from '../../../../support/doubles/arithmetic-backend.ts'
import { call, startTestNode, type TestNode } from '../../../../support/processes/in-process-node.ts'
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

/** Starts a node with version 7 active and version 6 loaded. */
async function start(
  arithmetic: ArithmeticOptions = {},
  { policy = {}, ...options }: { policy?: Partial<EnginePolicy>; keepAliveMs?: number } = {},
) {
  const { vocabSize } = tiny.model.config
  const backend = createArithmeticBackend({ vocabSize, ...arithmetic })
  const older = backend.weights(6)
  const node = await startTestNode({
    backend,
    model: tiny.model,
    engine: { config: { ...tiny.model.config, hiddenSize: HIDDEN_SIZE }, policy },
    named: (version) => (version === 6 ? older : null),
    ...options,
  })
  running.push(node)
  node.engine.setActive(backend.weights(7))
  return { backend, node }
}

const TEXT = 'the cat sat on the mat'
const embed = async (node: TestNode, request: object, fields: object = {}) => {
  const response = await node.post('/rpc/embeddings', call({ model: 'tiny', ...request }, fields))
  if (!response.ok) throw new Error(await response.text())
  return { headers: response.headers, answer: (await response.json()) as EmbeddingsResponse }
}
const vectorsOf = ({ answer }: { answer: EmbeddingsResponse }) =>
  answer.data.map(({ embedding }) => embedding as number[])

test('an embedding is the mean of the hidden states at length 1, with its mask, usage and one receipt', async () => {
  const { node } = await start()
  const { headers, answer } = await embed(node, { input: TEXT }, { requestId: 'request-embeds' })
  expect(headers.get('x-copal-mask')).toBe('7')
  const tokens = tiny.model.codec.encodeDocument(TEXT)
  expect(answer).toMatchObject({
    object: 'list',
    model: 'tiny',
    system_fingerprint: 'copal-tiny-m7',
    data: [{ object: 'embedding', index: 0 }],
    usage: { prompt_tokens: tokens.length, total_tokens: tokens.length },
  })
  const { embedding } = await node.engine.embed({ id: 'x', tokens }).embedding
  const length = Math.hypot(...embedding)
  const [vector] = vectorsOf({ answer })
  expect(Math.hypot(...vector!)).toBeCloseTo(1, 5)
  vector!.forEach((value, index) => expect(value).toBeCloseTo(embedding[index]! / length, 5))
  expect(await node.untilReceipts(1)).toMatchObject([
    {
      requestId: 'request-embeds',
      maskVersion: 7,
      promptTokens: tokens.length,
      completionTokens: 0,
      finishReason: 'stop',
    },
  ])
})

test('base64 holds the same numbers as f32', async () => {
  const { node } = await start()
  const [vector] = vectorsOf(await embed(node, { input: TEXT, encoding_format: 'float' }))
  const { answer } = await embed(node, { input: TEXT, encoding_format: 'base64' })
  const bytes = Buffer.from(answer.data[0]?.embedding as string, 'base64')
  const decoded = Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readFloatLE(index * 4))
  expect(decoded).toEqual(vector)
})

test('the embeddings of many texts keep their order, each equals that of its text alone, and token ids equal their text', async () => {
  const { node } = await start()
  const texts = Array.from({ length: 20 }, (_, index) => `text number ${index}`)
  const together = await embed(node, { input: texts })
  expect(together.answer.data.map(({ index }) => index)).toEqual(texts.map((_, index) => index))
  const [alone] = vectorsOf(await embed(node, { input: texts[13] }))
  expect(vectorsOf(together)[13]).toEqual(alone)
  const ids = texts.map((text) => tiny.model.codec.encodeDocument(text))
  expect(vectorsOf(await embed(node, { input: ids }))).toEqual(vectorsOf(together))
  expect(vectorsOf(await embed(node, { input: ids[13] }))).toEqual([alone])
  expect(together.answer.usage.prompt_tokens).toBe(ids.flat().length)
})

test('a request that names a version is embedded under it', async () => {
  const { node } = await start()
  const { answer } = await embed(node, { input: [TEXT, TEXT] }, { maskVersion: 6 })
  expect(answer.system_fingerprint).toBe('copal-tiny-m6')
  expect(vectorsOf({ answer })).not.toEqual(vectorsOf(await embed(node, { input: [TEXT, TEXT] })))
})

test('weights that are retired while texts wait still embed all texts of the call', async () => {
  let steps = 0
  const { promise: held, resolve: goOn } = Promise.withResolvers<void>()
  const { node, backend } = await start(
    { onStep: async () => (++steps === 1 ? held : undefined) },
    // All texts in the engine end with the same step.
    { policy: { stepTokens: 1024 } },
  )
  const answered = embed(node, { input: Array.from({ length: 30 }, (_, index) => `text number ${index}`) })
  await vi.waitFor(() => expect(steps).toBe(1), WAIT)
  const retired = node.engine.active!
  node.engine.setActive(backend.weights(8))
  const released = node.engine.drain(7, 60_000).then(() => backend.release(retired))
  goOn()
  expect((await answered).answer.data).toHaveLength(30)
  await released
})

// The longer one is not tokenised as a whole.
test.each([400, 4_000])(
  'a text of %i words rejects the request and leaves nothing running',
  async (words) => {
    const { node } = await start()
    const input = [TEXT, 'word '.repeat(words)]
    const response = await node.post('/rpc/embeddings', call({ model: 'tiny', input }))
    expect(response.status).toBe(400)
    // OpenAI's words, by which some clients know the error; a text that is embedded has no output.
    const message =
      /^This model's maximum context length is \d+ tokens and the text has (at least )?\d+\. Shorten it\.$/
    expect(await response.json()).toMatchObject({
      error: { code: 'context_length_exceeded', message: expect.stringMatching(message) as string },
    })
    expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 })
    expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'refused', promptTokens: 0 }])
  },
)

test('embeddings that take long keep their connection alive with spaces, and end when the client disconnects', async () => {
  let held = Promise.withResolvers<void>()
  const { node } = await start({ onStep: () => held.promise }, { keepAliveMs: 15 })
  const body = call({ model: 'tiny', input: TEXT })
  const late = await node.post('/rpc/embeddings', body)
  expect(late.headers.get(LATE_HEADER)).toBe('true')
  expect(late.headers.get('x-copal-mask')).toBeNull()
  held.resolve()
  const text = await late.text()
  // The gateway searches for the mask at the start.
  expect(text).toMatch(/^ +\{"object":"list","model":"tiny","system_fingerprint":"copal-tiny-m7",/)
  held = Promise.withResolvers()
  const left = await node.post('/rpc/embeddings', call({ model: 'tiny', input: TEXT }))
  await left.body?.cancel()
  expect((await node.untilReceipts(2))[1]).toMatchObject({ finishReason: 'cancelled' })
  held.resolve()
})

test('hidden states that are not finite are an error in the receipt too', async () => {
  const { node, backend } = await start()
  const step = backend.step.bind(backend)
  backend.step = async (plan) => {
    const { outputs } = await step(plan)
    for (const output of outputs) if (output.kind === 'hidden_sum') output.sum.fill(NaN)
    return { outputs }
  }
  const response = await node.post('/rpc/embeddings', call({ model: 'tiny', input: TEXT }))
  expect(response.status).toBe(502)
  expect(await node.untilReceipts(1)).toMatchObject([
    { maskVersion: 7, finishReason: 'error', errorCode: 'invalid_output' },
  ])
})

test('a call whose first texts were accepted is not rejected when others fill the queue meanwhile', async () => {
  let steps = 0
  const first = Promise.withResolvers<void>()
  const { node } = await start(
    { onStep: () => (steps++ === 0 ? first.promise : Promise.resolve()) },
    { policy: { maxRunning: 1, maxWaiting: 8 } },
  )
  const embedded = embed(node, { input: Array.from({ length: 20 }, (_, index) => `${TEXT} ${index}`) })
  await vi.waitFor(() => expect(node.engine.load()).toMatchObject({ running: 1, waiting: 7 }), WAIT)
  const other = embed(node, { input: TEXT })
  await vi.waitFor(() => expect(node.engine.load()).toMatchObject({ running: 1, waiting: 8 }), WAIT)
  first.resolve()
  expect((await embedded).answer.data).toHaveLength(20)
  expect((await other).answer.data).toHaveLength(1)
})

test('a call of which the queue takes one text alone failed, also in its receipt, and its client did not leave', async () => {
  const { node } = await start({}, { policy: { maxRunning: 1, maxWaiting: 1 } })
  const response = await node.post('/rpc/embeddings', call({ model: 'tiny', input: [TEXT, TEXT] }))
  expect(response.status).toBe(429)
  expect(await node.untilReceipts(1)).toMatchObject([{ finishReason: 'error', errorCode: 'overloaded' }])
  expect(node.engine.load()).toMatchObject({ running: 0, waiting: 0 })
})

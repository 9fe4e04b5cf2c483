/** Tests scoring and embeddings beside requests. */
import { setTimeout as sleep } from 'node:timers/promises'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createEngine } from '../../../../gpu-node/src/serving/engine/engine.ts'
import {
  CONFIG,
  readGeneration,
  request,
  startArithmeticEngine,
  textOf,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'
import { addon, BACKENDS } from '../../../support/engine/backends.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'
import { createRandom } from '../../../support/harness/random.ts'

test('scores are complete, in order, and survive being preempted', async () => {
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 },
  })
  const weights = backend.weights(1)
  engine.setActive(weights)
  const tokens = Array.from({ length: 100 }, (_, index) => (index * 37) % 256)
  const alone = await engine.score({ weights, lane: 'drift', tokens })
  expect(alone).toHaveLength(99)
  const again = engine.score({ weights, lane: 'drift', tokens })
  await untilTrue(() => engine.load().kvTokensUsed > 0)
  const requests = Array.from({ length: 6 }, (_, index) =>
    readGeneration(engine.generate(request([index + 1], { maxTokens: 40 }))),
  )
  expect(await again).toEqual(alone)
  await Promise.all(requests)
})

test('texts are scored beside requests that never end, as without them, of which only the wanted tokens', async () => {
  // Each step takes a millisecond: a machine that stands still in a step would give scoring its share of that time.
  let clockMs = 0
  const { backend, engine } = startArithmeticEngine({
    config: { ...CONFIG, contextLength: 1024 },
    policy: { maxWaiting: 100 },
    nowMs: () => clockMs,
    onStep: async () => void (clockMs += 1),
  })
  const active = backend.weights(1)
  const dense = backend.weights(0)
  engine.setActive(active)
  const texts = [0, 1, 2].map((text) => Array.from({ length: 257 }, (_, index) => (index * 37 + text) % 256))
  const scoreAll = () =>
    Promise.all(
      texts.flatMap((tokens, text) =>
        [active, dense].map((weights) =>
          engine.score({ weights, tokens, lane: text % 2 ? 'drift' : 'shadow', first: 1 + 16 * text }),
        ),
      ),
    )
  const alone = await scoreAll()
  expect(alone.map(({ length }) => length)).toEqual(
    texts.flatMap((_, text) => Array(2).fill(256 - 16 * text)),
  )

  let isRunning = true
  const clients = Array.from({ length: 40 }, async (_, client) => {
    for (let round = 0; isRunning; round++)
      await readGeneration(engine.generate(request([client, round % 256, 7], { maxTokens: 20 })))
  })
  await untilTrue(() => engine.load().waiting > 20)
  const before = backend.plans.length
  expect(await scoreAll()).toEqual(alone)
  const plans = backend.plans.slice(before)
  isRunning = false
  await Promise.all(clients)
  // The pieces ran beside requests, and in few of the steps.
  const pieces = plans.flatMap(({ work }) => work.filter(({ output }) => output === 'nll'))
  expect(Math.max(...pieces.map(({ tokens }) => tokens.length))).toBe(32)
  expect(plans.filter(({ work }) => work.some(({ output }) => output === 'token')).length).toBeGreaterThan(
    pieces.length,
  )
})

test('scores on other weights than the active ones run there', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  const dense = backend.weights(0)
  const nll = await engine.score({ weights: dense, lane: 'drift', tokens: [1, 2, 3] })
  expect(nll).toHaveLength(2)
  expect(backend.plans.every((plan) => plan.weights === dense)).toBe(true)
})

test('a request gets the pages that scoring on other weights holds', async () => {
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 },
  })
  engine.setActive(backend.weights(1))
  const dense = backend.weights(0)
  const tokens = Array.from({ length: 120 }, (_, index) => index)
  const score = engine.score({ weights: dense, lane: 'drift', tokens })
  await untilTrue(() => backend.kvTokens > 0)
  const prompt = tokens.slice(0, 100)
  const result = await readGeneration(engine.generate(request(prompt)))
  expect(result.text).toBe(textOf(backend.expected(1, prompt, { seed: 0 }, 10)))
  expect(await score).toHaveLength(119)
})

test('scoring is rejected when texts are too short, too long, aborted or too many, or their weights fail', async () => {
  const { backend, engine } = startArithmeticEngine({ policy: { maxScores: 1 }, onStep: () => sleep(5) })
  const weights = backend.weights(1)
  await expect(engine.score({ weights, lane: 'drift', tokens: [1] })).rejects.toMatchObject({
    code: 'invalid_request',
  })
  await expect(
    engine.score({ weights, lane: 'drift', tokens: Array<number>(129).fill(1) }),
  ).rejects.toMatchObject({
    code: 'context_length_exceeded',
  })
  const controller = new AbortController()
  const first = engine.score({ weights, lane: 'drift', tokens: [1, 2], signal: controller.signal })
  await expect(engine.score({ weights, lane: 'drift', tokens: [1, 2] })).rejects.toMatchObject({
    code: 'overloaded',
  })
  controller.abort()
  await expect(first).rejects.toMatchObject({ code: 'client_closed_request' })
  const doomed = engine.score({ weights, lane: 'drift', tokens: [1, 2] })
  backend.kill(weights)
  await expect(doomed).rejects.toMatchObject({ code: 'node_failed' })
})

test('embeddings are the means of all hidden states, whatever runs beside them and however often they are preempted', async () => {
  const random = createRandom(3)
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 },
  })
  engine.setActive(backend.weights(1))
  const texts = Array.from({ length: 12 }, () =>
    Array.from({ length: 1 + Math.floor(random() * 128) }, () => Math.floor(random() * 256)),
  )
  const generated = Array.from({ length: 8 }, (_, index) =>
    readGeneration(engine.generate(request([index + 1], { maxTokens: 60 }))),
  )
  const calls = texts.map((tokens, index) => engine.embed({ id: `embedding-${index}`, tokens }))
  for (const [index, { embedding, outcome }] of calls.entries()) {
    const tokens = texts[index]!
    const expected = Float32Array.from(backend.expectedEmbedding(1, tokens))
    expect(await embedding).toEqual({ embedding: expected, maskVersion: 1 })
    expect(await outcome).toMatchObject({
      finishReason: 'stop',
      weights: { version: 1 },
      promptTokens: tokens.length,
      completionTokens: 0,
      error: null,
    })
  }
  await Promise.all(generated)
  await untilTrue(() => backend.kvTokens === 0)
})

test('descriptions at low priority survive being preempted, and never run in steps with admitted requests', async () => {
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 },
  })
  const weights = backend.weights(1)
  engine.setActive(weights)
  const tokens = Array.from({ length: 100 }, (_, index) => (index * 37) % 256)
  const described = engine.describe({ weights, lane: 'describe', tokens })
  await untilTrue(() => engine.load().kvTokensUsed > 0)
  expect(engine.load()).toMatchObject({ running: 0, waiting: 0, scoring: 1 })
  const requests = Array.from({ length: 6 }, (_, index) =>
    readGeneration(engine.generate(request([index + 1], { maxTokens: 40 }))),
  )
  const { embedding, nll } = await described
  await Promise.all(requests)
  expect(embedding).toEqual(Float32Array.from(backend.expectedEmbedding(1, tokens)))
  expect(nll).toEqual(await engine.score({ weights, lane: 'describe', tokens }))
})

test('an embedding whose weights are drained restarts on the new ones', async () => {
  const { backend, engine } = startArithmeticEngine({
    config: { ...CONFIG, contextLength: 10_000 },
    policy: { prefillChunk: 16 },
  })
  engine.setActive(backend.weights(1))
  const tokens = Array.from({ length: 2000 }, (_, index) => index % 256)
  const { embedding } = engine.embed({ id: 'embedding-1', tokens })
  await untilTrue(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  await engine.drain(1, 1)
  expect(await embedding).toEqual({
    embedding: Float32Array.from(backend.expectedEmbedding(2, tokens)),
    maskVersion: 2,
  })
})

test('embeddings are rejected when they are empty, too long or cancelled, or too many wait', async () => {
  const { backend, engine } = startArithmeticEngine({ policy: { maxWaiting: 1 } })
  const embed = (tokens: number[], fields = {}) => engine.embed({ id: 'embedding-2', tokens, ...fields })
  expect(() => embed([])).toThrow(/empty/)
  expect(() => embed([1, 256])).toThrow(expect.objectContaining({ param: 'tokens[1]' }))
  expect(() => embed(Array<number>(129).fill(1))).toThrow(/128 tokens and the text has 129/)
  const controller = new AbortController()
  const waiting = embed([1], { signal: controller.signal })
  expect(() => embed([2])).toThrow(expect.objectContaining({ code: 'overloaded' }))
  expect(engine.progress()).toMatchObject([{ requestId: 'embedding-2', idleMs: 0 }])
  controller.abort()
  await expect(waiting.embedding).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(await waiting.outcome).toMatchObject({ finishReason: 'cancelled', weights: null, promptTokens: 0 })
  engine.setActive(backend.weights(1))
  expect((await embed(Array<number>(128).fill(1)).embedding).maskVersion).toBe(1)
})

if (!addon) skipWithoutAddon('the sparse engine')
test.runIf(addon)(
  'on the sparse engine a text scored beside requests has the same bits as alone',
  async () => {
    const tiny = await openTinyModel({ contextLength: 512 })
    onTestFinished(() => tiny.remove())
    const backend = BACKENDS[1]!.create(temporaryDir())
    const maskPath = join(temporaryDir(), 'mask.safetensors')
    await writeFile(maskPath, randomHalfMask(tiny.model, 5).bytes)
    const load = (version: number, path: string | null) =>
      backend.load({ model: tiny.model, version, maskPath: path, priority: 'serving' })
    const sets = [await load(1, maskPath), await load(0, null)]
    const { config, codec } = tiny.model
    const engine = createEngine({
      backend,
      config,
      codec,
      inspect: checkInvariants,
      policy: { maxRunning: 4 },
    })
    onTestFinished(async () => {
      engine.close()
      for (const weights of sets) await backend.release(weights)
    })
    engine.setActive(sets[0]!)
    const tokens = Array.from({ length: 300 }, (_, index) => (index * 37) % config.vocabSize)
    const scoreBoth = () =>
      Promise.all(sets.map((weights) => engine.score({ weights, tokens, lane: 'drift', first: 100 })))
    const alone = await scoreBoth()
    let isRunning = true
    const clients = Array.from({ length: 8 }, async (_, client) => {
      for (let round = 0; isRunning; round++)
        await readGeneration(engine.generate(request([client + 1, round % 200, 7], { maxTokens: 30 })))
    })
    await untilTrue(() => engine.load().running > 0)
    const beside = await scoreBoth()
    isRunning = false
    await Promise.all(clients)
    expect(beside).toEqual(alone)
    expect(alone[0]).not.toEqual(alone[1])
  },
)

import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test, vi } from 'vitest'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import {
  CONFIG,
  readGeneration,
  request,
  startArithmeticEngine,
  textOf,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'
import { createRandom } from '../../../support/harness/random.ts'

test('a request is pinned, streams its text, and finishes with its counts', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(3))
  const result = await readGeneration(engine.generate(request([1, 2, 3])))
  expect(result.text).toBe(textOf(backend.expected(3, [1, 2, 3], { seed: 0 }, 10)))
  expect(result.versions).toEqual([3])
  expect(result.finished).toEqual({
    type: 'finished',
    reason: 'length',
    promptTokens: 3,
    cachedTokens: 0,
    completionTokens: 10,
  })
  expect(result.outcome).toMatchObject({ finishReason: 'length', weights: { version: 3 }, error: null })
  const { arrivedMs, startedMs, firstTokenMs, endedMs } = result.outcome.times
  expect([arrivedMs, startedMs, firstTokenMs, endedMs]).toEqual(
    [arrivedMs, startedMs, firstTokenMs, endedMs].toSorted((a, b) => a! - b!),
  )
})

test('many concurrent requests of random lengths equal each alone, within the budget', async () => {
  const random = createRandom(5)
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 304, scoreKvTokens: 0, prefillChunk: 16, maxRunning: 6, maxWaiting: 100 },
  })
  engine.setActive(backend.weights(1))
  const specs = Array.from({ length: 60 }, () => {
    const prompt = Array.from({ length: 1 + Math.floor(random() * 90) }, () => Math.floor(random() * 256))
    return { prompt, maxTokens: 1 + Math.floor(random() * 60), seed: Math.floor(random() * 1e6) }
  })
  const results = await Promise.all(
    specs.map((spec) => readGeneration(engine.generate(request(spec.prompt, spec)))),
  )
  results.forEach((result, index) => {
    const { prompt, maxTokens, seed } = specs[index]!
    const count = Math.min(maxTokens, 128 - prompt.length)
    expect(result.text).toBe(textOf(backend.expected(1, prompt, { seed }, count)))
  })
  expect(backend.kvTokensPeak).toBeLessThanOrEqual(304)
  expect(backend.plans.some((plan) => plan.work.length > 3)).toBe(true)
  await untilTrue(() => backend.kvTokens === 0)
  expect(engine.load()).toEqual({
    running: 0,
    waiting: 0,
    scoring: 0,
    kvTokensUsed: 0,
    kvTokensTotal: 304,
    kvTokensCached: 0,
  })
})

test.each([1, 2, 3])(
  'seed %i: few pages, many streams, common prefixes: everyone gets the text it has alone',
  async (seed) => {
    const random = createRandom(seed)
    const pick = (below: number) => Math.floor(random() * below)
    let preempted = 0
    const { backend, engine } = startArithmeticEngine({
      seed,
      // Eight pages hold one context.
      policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 8, maxWaiting: 100 },
      inspect: (state, policy) => {
        checkInvariants(state, policy)
        preempted += state.requests.filter(({ status }) => status.kind === 'waiting' && status.pin).length
      },
    })
    engine.setActive(backend.weights(1))
    const prefixes = Array.from({ length: 3 }, () => Array.from({ length: 50 }, () => pick(256)))
    const specs = Array.from({ length: 50 }, () => {
      const prefix = prefixes[pick(3)]!.slice(0, 1 + pick(50))
      const prompt = [...prefix, ...Array.from({ length: pick(20) }, () => pick(256))]
      return { prompt, maxTokens: 1 + pick(50), seed: pick(1e6), partition: [undefined, 'a', 'b'][pick(3)] }
    })
    const results = await Promise.all(
      specs.map((spec) => readGeneration(engine.generate(request(spec.prompt, spec)))),
    )
    let cached = 0
    for (const [index, { text: found, finished }] of results.entries()) {
      const { prompt, maxTokens, seed: draws, partition } = specs[index]!
      expect(found).toBe(
        textOf(backend.expected(1, prompt, { seed: draws }, Math.min(maxTokens, 128 - prompt.length))),
      )
      if (finished?.type !== 'finished') throw new Error('it did not finish')
      expect(finished.cachedTokens).toBeLessThan(partition === undefined ? 1 : prompt.length)
      cached += finished.cachedTokens
    }
    expect(cached).toBeGreaterThan(0)
    expect(preempted).toBeGreaterThan(0)
    expect(backend.kvTokensPeak).toBeLessThanOrEqual(128)
    await untilTrue(() => backend.kvTokens === 0)
  },
)

test('requests wait until the first weights are active', async () => {
  const { backend, engine } = startArithmeticEngine()
  const result = readGeneration(engine.generate(request([5])))
  await sleep(5)
  expect(engine.load()).toMatchObject({ waiting: 1, running: 0 })
  engine.setActive(backend.weights(4))
  expect((await result).versions).toEqual([4])
})

test('a request whose own results are not valid fails alone, and its pages are free', async () => {
  const { backend, engine } = startArithmeticEngine()
  const step = backend.step.bind(backend)
  // The third token of the request whose prompt begins with 9 is not valid.
  const bad = new Set<number>()
  backend.step = async (plan) => {
    for (const { sequence, position, tokens } of plan.work)
      if (position === 0 && tokens[0] === 9) bad.add(sequence)
    const { outputs } = await step(plan)
    const isBad = (index: number) => bad.has(plan.work[index]!.sequence) && plan.work[index]!.position >= 3
    const failed = { kind: 'failed', message: 'Its logits are not numbers.' } as const
    return { outputs: outputs.map((output, index) => (isBad(index) ? failed : output)) }
  }
  engine.setActive(backend.weights(4))
  const failing = engine.generate(request([9, 1]))
  const others = [[5], [6, 7], [8]].map((prompt) => readGeneration(engine.generate(request(prompt))))
  await expect(readGeneration(failing)).rejects.toMatchObject({
    code: 'invalid_output',
    message: 'Its logits are not numbers.',
  })
  expect(await failing.outcome).toMatchObject({ finishReason: 'error', completionTokens: 2 })
  for (const other of await Promise.all(others))
    expect(other).toMatchObject({ outcome: { finishReason: 'length', completionTokens: 10 } })
  await untilTrue(() => backend.kvTokens === 0)
})

test('requests that name weights run while the active set is lost, and the others fail once it cannot be loaded again', async () => {
  const { backend, engine } = startArithmeticEngine()
  const lost = backend.weights(4)
  const named = backend.weights(3)
  engine.setActive(lost)
  backend.kill(lost)
  await untilTrue(() => engine.active === null)
  const waiting = readGeneration(engine.generate(request([5])))
  const pinned = await readGeneration(engine.generate(request([5], { weights: named })))
  expect(pinned).toMatchObject({ versions: [3], outcome: { finishReason: 'length' } })
  expect(engine.load()).toMatchObject({ waiting: 1, running: 0 })

  engine.failWithoutWeights(new Error('no memory'))
  await expect(waiting).rejects.toMatchObject({
    code: 'node_failed',
    retryable: true,
    message: expect.stringContaining('cannot be loaded again') as string,
  })
  const later = readGeneration(engine.generate(request([5])))
  engine.setActive(backend.weights(4))
  engine.failWithoutWeights(new Error('of another set'))
  expect((await later).versions).toEqual([4])
})

test('every running request reports its progress and its idle time', async () => {
  let held: Promise<void> | undefined
  const { backend, engine } = startArithmeticEngine({
    policy: { maxRunning: 1 },
    config: { ...CONFIG, contextLength: 10_000 },
    onStep: async () => held,
  })
  engine.setActive(backend.weights(1))
  void readGeneration(engine.generate(request([1], { id: 'running-1', maxTokens: null }))).catch(() => {})
  void readGeneration(engine.generate(request([2], { id: 'waiting-1' }))).catch(() => {})
  await untilTrue(() => backend.plans.length > 2)
  const [running, waiting] = engine.progress()
  expect(running).toMatchObject({ requestId: 'running-1', promptTokens: 1 })
  expect(running?.completionTokens).toBeGreaterThan(0)
  expect(waiting).toEqual({ requestId: 'waiting-1', promptTokens: 0, completionTokens: 0, idleMs: 0 })
  // On a set without steps only the running request becomes idle.
  const { promise, resolve } = Promise.withResolvers<void>()
  held = promise
  await vi.waitUntil(() => (engine.progress()[0]?.idleMs ?? 0) > 50, { timeout: 60_000, interval: 5 })
  expect(engine.progress()[1]?.idleMs).toBe(0)
  resolve()
})

test("the wait for the first token counts from a request's first step, and not for embeddings", async () => {
  let held: Promise<void> | undefined
  const { backend, engine } = startArithmeticEngine({
    policy: { maxRunning: 2, prefillChunk: 4 },
    onStep: async () => held,
  })
  void readGeneration(engine.generate(request(Array<number>(40).fill(1), { id: 'fed-1' }))).catch(() => {})
  engine.embed({ id: 'embedded-1', tokens: Array<number>(40).fill(2) }).embedding.catch(() => {})
  void readGeneration(engine.generate(request([3], { id: 'waiting-1' }))).catch(() => {})
  const tokenless = () => engine.progress().map(({ firstTokenWaitMs }) => firstTokenWaitMs)
  await sleep(30)
  expect(tokenless()).toEqual([undefined, undefined, undefined])
  const activeSinceMs = performance.now()
  engine.setActive(backend.weights(1))
  await untilTrue(() => backend.plans.length > 2)
  const { promise, resolve } = Promise.withResolvers<void>()
  held = promise
  await vi.waitUntil(() => (engine.progress()[0]?.firstTokenWaitMs ?? 0) > 50, {
    timeout: 60_000,
    interval: 5,
  })
  // Counted from its arrival it would be 30 ms more.
  const waitMs = engine.progress()[0]?.firstTokenWaitMs ?? 0
  expect(waitMs - (performance.now() - activeSinceMs)).toBeLessThan(15)
  expect(tokenless().slice(1)).toEqual([undefined, undefined])
  held = undefined
  resolve()
  await vi.waitUntil(() => (engine.progress()[0]?.completionTokens ?? 1) > 0, { timeout: 60_000 })
  expect(engine.progress()[0]?.firstTokenWaitMs).toBeUndefined()
  engine.close()
})

test('closing fails all requests and rejects new ones', async () => {
  const { backend, engine } = startArithmeticEngine({ config: { ...CONFIG, contextLength: 10_000 } })
  engine.setActive(backend.weights(1))
  const running = readGeneration(engine.generate(request([1], { maxTokens: null })))
  await untilTrue(() => backend.plans.length > 2)
  engine.close()
  await expect(running).rejects.toMatchObject({ code: 'node_failed' })
  expect(() => engine.generate(request([1]))).toThrow(/shutting down/)
})

test('drafts change no text, and an output that ends within a step has no token after its end', async () => {
  const sampled: number[] = []
  const { backend, engine } = startArithmeticEngine({
    vocabSize: 3,
    observer: { step: ({ acceptedDrafts }) => sampled.push(acceptedDrafts) },
  })
  engine.setActive(backend.weights(1))
  const random = createRandom(8)
  for (let index = 0; index < 12; index++) {
    const prompt = Array.from({ length: 30 }, () => Math.floor(random() * 3))
    const expected = backend.expected(1, prompt, { seed: index }, 80)
    // A string that appears late, so that most of the output is generated before.
    const stop = textOf(expected.slice(60, 66))
    const { text, outcome, finished } = await readGeneration(
      engine.generate(request(prompt, { maxTokens: 80, seed: index, stops: [stop] })),
    )
    const whole = textOf(expected)
    expect(text).toBe(whole.slice(0, whole.indexOf(stop)))
    expect(outcome.text.tokens.slice(30)).toEqual(expected.slice(0, whole.indexOf(stop) + 6))
    expect(finished).toMatchObject({ completionTokens: whole.indexOf(stop) + 6 })
  }
  expect(sampled.reduce((sum, count) => sum + count)).toBeGreaterThan(20)
})

test('the tokens of a request that a step samples are observed at once, and none of them without time', async () => {
  let [nowMs, steps] = [0, 0]
  const observed: { tokens: number; sinceMs: number; first: boolean }[] = []
  const { backend, engine } = startArithmeticEngine({
    vocabSize: 3,
    nowMs: () => (nowMs += 1),
    observer: { step: () => void (steps += 1), sampled: (sampled) => observed.push(sampled) },
  })
  engine.setActive(backend.weights(1))
  const prompt = Array.from({ length: 30 }, (_, index) => index % 3)
  const { outcome } = await readGeneration(engine.generate(request(prompt, { maxTokens: 90 })))
  expect(observed.map(({ first }) => first)).toEqual(observed.map((_, index) => index === 0))
  expect(observed.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(outcome.completionTokens)
  expect(observed).toHaveLength(steps)
  expect(Math.max(...observed.map(({ tokens }) => tokens))).toBeGreaterThan(1)
  expect(Math.min(...observed.map(({ sinceMs }) => sinceMs))).toBeGreaterThan(0)
})

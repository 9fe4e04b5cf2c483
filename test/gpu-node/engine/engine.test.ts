import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { StepPlan } from '../../../gpu-node/src/backends/backend.ts'
import type { Engine, EngineDeps } from '../../../gpu-node/src/engine/api.ts'
import { createEngine } from '../../../gpu-node/src/engine/engine.ts'
import type { GenerateEvent, GenerateRequest, Generation } from '../../../gpu-node/src/engine/generation.ts'
import { checkInvariants } from '../../../gpu-node/src/engine/invariants.ts'
import { createArithmeticBackend, HIDDEN_SIZE } from '../../support/arithmetic-backend.ts'
import { createRandom } from '../../support/random.ts'
import { GREEDY } from '../../support/greedy.ts'

const CONFIG = { vocabSize: 256, contextLength: 128, hiddenSize: HIDDEN_SIZE, eosTokenIds: [] as number[] }
/** Token n is the letter n mod 26. */
const CODEC = { tokenBytes: (id: number) => Uint8Array.of(97 + (id % 26)), isSpecial: () => false }
const text = (tokens: readonly number[]) => tokens.map((id) => String.fromCharCode(97 + (id % 26))).join('')

const engines: Engine[] = []
afterEach(() => {
  for (const engine of engines.splice(0)) engine.close()
})

function setup(
  options: Partial<EngineDeps> & { onStep?: (plan: StepPlan) => Promise<void>; seed?: number } = {},
) {
  const { onStep, seed, ...deps } = options
  const backend = createArithmeticBackend({ ...(onStep ? { onStep } : {}), seed: seed ?? 1 })
  const engine = createEngine({ backend, config: CONFIG, codec: CODEC, inspect: checkInvariants, ...deps })
  engines.push(engine)
  return { backend, engine }
}

let nextId = 0
function request(
  prompt: readonly number[],
  fields: Partial<GenerateRequest> & { seed?: number } = {},
): GenerateRequest {
  const { seed = 0, ...rest } = fields
  return {
    id: `request-${nextId++}`,
    prompt,
    maxTokens: 10,
    stops: [],
    restartable: false,
    sampling: { ...GREEDY, seed },
    ...rest,
  }
}

/** Reads a generation to its end; a second `pinned` starts the text over. */
async function read({ events, outcome }: Generation) {
  let answer = ''
  const versions: number[] = []
  let finished: GenerateEvent | undefined
  for await (const event of events) {
    if (event.type === 'pinned') {
      versions.push(event.maskVersion)
      answer = ''
    } else if (event.type === 'text') answer += event.text
    else finished = event
  }
  return { text: answer, versions, finished, outcome: await outcome }
}

/** Resolves when the condition holds, looking after every macrotask. */
async function when(condition: () => boolean) {
  for (let turn = 0; !condition(); turn++) {
    if (turn > 5000) throw new Error('the condition never held')
    await new Promise((resolve) => setImmediate(resolve))
  }
}

test('a request is pinned, streams its text, and finishes with its counts', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(3))
  const result = await read(engine.generate(request([1, 2, 3])))
  expect(result.text).toBe(text(backend.expected(3, [1, 2, 3], { seed: 0 }, 10)))
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

test('many requests of random lengths together give what each gives alone, within the budget', async () => {
  const random = createRandom(5)
  const { backend, engine } = setup({
    policy: { kvTokens: 304, prefillChunk: 16, maxRunning: 6, maxWaiting: 100 },
  })
  engine.setActive(backend.weights(1))
  const specs = Array.from({ length: 60 }, () => {
    const prompt = Array.from({ length: 1 + Math.floor(random() * 90) }, () => Math.floor(random() * 256))
    return { prompt, maxTokens: 1 + Math.floor(random() * 60), seed: Math.floor(random() * 1e6) }
  })
  const results = await Promise.all(specs.map((spec) => read(engine.generate(request(spec.prompt, spec)))))
  results.forEach((result, index) => {
    const { prompt, maxTokens, seed } = specs[index]!
    const count = Math.min(maxTokens, 128 - prompt.length)
    expect(result.text).toBe(text(backend.expected(1, prompt, { seed }, count)))
  })
  expect(backend.kvTokensPeak).toBeLessThanOrEqual(304)
  expect(backend.plans.some((plan) => plan.work.length > 3)).toBe(true)
  await when(() => backend.kvTokens === 0)
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
  'seed %i: few pages, many streams, common beginnings: everyone gets the text it has alone',
  async (seed) => {
    const random = createRandom(seed)
    const pick = (below: number) => Math.floor(random() * below)
    let preempted = 0
    const { backend, engine } = setup({
      seed,
      // Eight pages: one context.
      policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 8, maxWaiting: 100 },
      inspect: (state, policy) => {
        checkInvariants(state, policy)
        preempted += state.requests.filter(({ status }) => status.kind === 'waiting' && status.pin).length
      },
    })
    engine.setActive(backend.weights(1))
    const beginnings = Array.from({ length: 3 }, () => Array.from({ length: 50 }, () => pick(256)))
    const specs = Array.from({ length: 50 }, () => {
      const beginning = beginnings[pick(3)]!.slice(0, 1 + pick(50))
      const prompt = [...beginning, ...Array.from({ length: pick(20) }, () => pick(256))]
      return { prompt, maxTokens: 1 + pick(50), seed: pick(1e6), partition: [undefined, 'a', 'b'][pick(3)] }
    })
    const results = await Promise.all(specs.map((spec) => read(engine.generate(request(spec.prompt, spec)))))
    let cached = 0
    for (const [index, { text: found, finished }] of results.entries()) {
      const { prompt, maxTokens, seed: draws, partition } = specs[index]!
      expect(found).toBe(
        text(backend.expected(1, prompt, { seed: draws }, Math.min(maxTokens, 128 - prompt.length))),
      )
      if (finished?.type !== 'finished') throw new Error('it did not finish')
      expect(finished.cachedTokens).toBeLessThan(partition === undefined ? 1 : prompt.length)
      cached += finished.cachedTokens
    }
    expect(cached).toBeGreaterThan(0)
    expect(preempted).toBeGreaterThan(0)
    expect(backend.kvTokensPeak).toBeLessThanOrEqual(128)
    await when(() => backend.kvTokens === 0)
  },
)

test('how many tokens of a prompt were cached is told, and only to the partition that had it', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const cachedOf = async (partition: string | undefined) => {
    const { finished } = await read(engine.generate(request(prompt, { partition })))
    return finished?.type === 'finished' ? finished.cachedTokens : undefined
  }
  expect(await cachedOf('a')).toBe(0)
  expect(await cachedOf('a')).toBe(64)
  expect(await cachedOf('b')).toBe(0)
  expect(await cachedOf(undefined)).toBe(0)
  engine.setActive(backend.weights(2))
  expect(await cachedOf('a')).toBe(0)
})

describe('beginnings of prompts', () => {
  const prompt = Array.from({ length: 70 }, (_, index) => index)
  const named = (...names: string[]) => names.map((name, index) => ({ name, tokens: 32 * (index + 1) }))

  test('are told by their names once they were fed, as long as weights and pages are there', async () => {
    const { backend, engine } = setup({ policy: { kvTokens: 128 } })
    expect(engine.heldBeginnings()).toBeNull()
    const first = backend.weights(1)
    engine.setActive(first)
    expect(engine.heldBeginnings()).toEqual([])
    const run = (tokens: readonly number[], fields: Partial<GenerateRequest>) =>
      read(engine.generate(request(tokens, { partition: 'a', ...fields })))
    await run(prompt, { beginnings: named('x', 'y') })
    await run(prompt.slice(0, 33).toReversed(), { beginnings: named('unshared'), partition: undefined })
    expect(engine.heldBeginnings()).toEqual([{ version: 1, keys: ['x', 'y'] }])
    // More pages are wanted than are free: the end of the first prompt goes.
    await run(prompt.slice(20, 60).toReversed(), { beginnings: named('z'), maxTokens: 40 })
    expect(engine.heldBeginnings()).toEqual([{ version: 1, keys: ['x', 'z'] }])
    await run(prompt, { beginnings: named('x') })
    expect(engine.heldBeginnings()).toMatchObject([{ keys: expect.arrayContaining(['x']) }])

    engine.setActive(backend.weights(2))
    await run(prompt.slice(0, 40), { beginnings: named('x') })
    expect(engine.heldBeginnings()?.map(({ version }) => version)).toContain(2)
    backend.kill(first)
    await when(() => engine.heldBeginnings()?.length === 1)
    expect(engine.heldBeginnings()).toEqual([{ version: 2, keys: ['x'] }])
  })

  test('of a request that ended before its prompt was fed, or shorter than a page, are not', async () => {
    const { backend, engine } = setup({ onStep: () => sleep(2), policy: { prefillChunk: 16 } })
    engine.setActive(backend.weights(1))
    const abort = new AbortController()
    const beginnings = named('left')
    const left = engine.generate(request(prompt, { partition: 'a', beginnings, signal: abort.signal }))
    await when(() => backend.plans.length > 0)
    abort.abort()
    await expect(read(left)).rejects.toMatchObject({ code: 'client_closed_request' })
    const short = [{ name: 'short', tokens: 15 }]
    await read(engine.generate(request(prompt, { partition: 'a', beginnings: short })))
    expect(engine.heldBeginnings()).toEqual([])
  })

  test('are told of as many as a heartbeat may hold, those used last', async () => {
    const { backend, engine } = setup({ policy: { kvTokens: 128 } })
    engine.setActive(backend.weights(1))
    const names = Array.from({ length: 300 }, (_, index) => `name-${index}`)
    const beginnings = names.map((name) => ({ name, tokens: 32 }))
    await read(engine.generate(request(prompt, { partition: 'a', beginnings })))
    await read(engine.generate(request(prompt, { partition: 'a', beginnings: beginnings.slice(50, 51) })))
    const [held] = engine.heldBeginnings() ?? []
    expect(held?.keys).toEqual([...names.slice(44, 50), ...names.slice(51), 'name-50'])
  })
})

test('swaps under load: every answer names one version and is what that version alone gives', async () => {
  const random = createRandom(9)
  const { backend, engine } = setup({
    policy: { kvTokens: 256, prefillChunk: 16, maxRunning: 4, maxWaiting: 200 },
  })
  engine.setActive(backend.weights(1))
  const running: Promise<void>[] = []
  const seen = new Set<number>()
  for (let index = 0; index < 80; index++) {
    const prompt = Array.from({ length: 1 + Math.floor(random() * 60) }, () => Math.floor(random() * 256))
    running.push(
      read(engine.generate(request(prompt, { maxTokens: 20, partition: 'a' }))).then((result) => {
        expect(result.versions).toHaveLength(1)
        seen.add(result.versions[0]!)
        expect(result.text).toBe(text(backend.expected(result.versions[0]!, prompt, { seed: 0 }, 20)))
      }),
    )
    if (index % 20 === 19) engine.setActive(backend.weights(2 + index))
    for (let turn = Math.floor(random() * 8); turn > 0; turn--)
      await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(running)
  expect(seen.size).toBeGreaterThan(2)
})

test('requests wait until the first weights are active', async () => {
  const { backend, engine } = setup()
  const result = read(engine.generate(request([5])))
  await sleep(5)
  expect(engine.load()).toMatchObject({ waiting: 1, running: 0 })
  engine.setActive(backend.weights(4))
  expect((await result).versions).toEqual([4])
})

test('an end token ends the answer, is no text and is not counted', async () => {
  const probe = createArithmeticBackend()
  const end = probe.expected(1, [1], { seed: 0 }, 4)[3]!
  const { backend, engine } = setup({ config: { ...CONFIG, eosTokenIds: [end] } })
  engine.setActive(backend.weights(1))
  const result = await read(engine.generate(request([1], { maxTokens: null })))
  expect(result.text).toBe(text(probe.expected(1, [1], { seed: 0 }, 3)))
  expect(result.finished).toMatchObject({ reason: 'stop', completionTokens: 3 })
})

test('a stop string ends the answer before it, and the room is free afterwards', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const full = text(backend.expected(1, [1], { seed: 0 }, 30))
  const stop = full.slice(5, 8)
  const result = await read(engine.generate(request([1], { maxTokens: 30, stops: [stop] })))
  expect(result.text).toBe(full.slice(0, full.indexOf(stop)))
  expect(result.finished).toMatchObject({ reason: 'stop' })
  await when(() => backend.kvTokens === 0)
})

test('special tokens are hidden from the text', async () => {
  const probe = createArithmeticBackend()
  const tokens = probe.expected(1, [1], { seed: 0 }, 10)
  const { backend, engine } = setup({ codec: { ...CODEC, isSpecial: (id) => id === tokens[4] } })
  engine.setActive(backend.weights(1))
  const result = await read(engine.generate(request([1])))
  expect(result.text).toBe(text(tokens.filter((id) => id !== tokens[4])))
})

test('an aborted request ends at once, and its room is free after the next step', async () => {
  const { backend, engine } = setup({ config: { ...CONFIG, contextLength: 100_000 } })
  engine.setActive(backend.weights(1))
  const controller = new AbortController()
  const generation = engine.generate(request([1], { maxTokens: null, signal: controller.signal }))
  const reading = read(generation)
  const other = read(engine.generate(request([2], { maxTokens: 200 })))
  await when(() => backend.plans.length > 20)
  controller.abort()
  const plansThen = backend.plans.length
  await expect(reading).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(await generation.outcome).toMatchObject({
    finishReason: 'cancelled',
    weights: { version: 1 },
    promptTokens: 1,
  })
  expect((await other).text).toBe(text(backend.expected(1, [2], { seed: 0 }, 200)))
  const worked = backend.plans.slice(plansThen + 1).flatMap((plan) => plan.work)
  expect(new Set(worked.map((work) => work.sequence)).size).toBe(1)
  await when(() => engine.load().kvTokensUsed === 0)
})

test('a consumer that leaves the loop cancels its request', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const generation = engine.generate(request([1], { maxTokens: null }))
  for await (const event of generation.events) if (event.type === 'text') break
  expect(await generation.outcome).toMatchObject({ finishReason: 'cancelled' })
})

test('a request aborted before it was made never runs', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const generation = engine.generate(request([1], { signal: AbortSignal.abort() }))
  expect(await generation.outcome).toMatchObject({
    finishReason: 'cancelled',
    weights: null,
    promptTokens: 0,
  })
  await sleep(1)
  expect(backend.plans).toHaveLength(0)
})

test('a deadline fails a request that waits and one that runs', async () => {
  const { engine, backend } = setup({ config: { ...CONFIG, contextLength: 1_000_000 } })
  await expect(read(engine.generate(request([1], { deadlineMs: 5 })))).rejects.toMatchObject({
    code: 'deadline_exceeded',
  })
  engine.setActive(backend.weights(1))
  const running = engine.generate(request([1], { deadlineMs: 20, maxTokens: null }))
  await expect(read(running)).rejects.toMatchObject({ code: 'deadline_exceeded' })
  expect(await running.outcome).toMatchObject({ finishReason: 'error', weights: { version: 1 } })
})

test('a prompt that leaves no room for an answer is refused with both numbers', () => {
  const { engine } = setup()
  expect(() => engine.generate(request(Array<number>(128).fill(1)))).toThrow(
    /128 tokens and the prompt has 128/,
  )
  expect(() => engine.generate(request(Array<number>(500).fill(1)))).toThrow(
    /128 tokens and the prompt has 500/,
  )
})

test('an empty prompt and a token that does not exist are refused by name', () => {
  const { engine } = setup()
  expect(() => engine.generate(request([]))).toThrow(/empty/)
  expect(() => engine.generate(request([1, 256]))).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'prompt[1]' }),
  )
  expect(() => engine.generate(request([-1]))).toThrow(/0 to 255/)
})

test('a full queue is refused with the time to come back', () => {
  const { engine } = setup({ policy: { maxWaiting: 2 } })
  engine.generate(request([1]))
  engine.generate(request([1]))
  expect(() => engine.generate(request([1]))).toThrow(
    expect.objectContaining({ code: 'overloaded', retryAfterS: expect.any(Number) }),
  )
})

test('a rejected step is an error for the requests in it; others on the set go on', async () => {
  let failNext = false
  const { backend, engine } = setup({
    policy: { maxRunning: 1 },
    onStep: async () => {
      if (!failNext) return
      failNext = false
      throw new Error('secret path /x')
    },
  })
  engine.setActive(backend.weights(1))
  const first = read(engine.generate(request([1], { maxTokens: 50 })))
  const second = read(engine.generate(request([2])))
  failNext = true
  await expect(first).rejects.toMatchObject({
    code: 'node_failed',
    message: expect.not.stringContaining('secret'),
  })
  expect((await second).text).toBe(text(backend.expected(1, [2], { seed: 0 }, 10)))
})

test('a weight set that dies fails only its requests; those waiting are served by the set that replaces it', async () => {
  const { backend, engine } = setup({
    policy: { maxRunning: 2 },
    config: { ...CONFIG, contextLength: 10_000 },
  })
  const old = backend.weights(1)
  engine.setActive(old)
  const onOld = engine.generate(request([1], { maxTokens: 5000 }))
  const oldReading = read(onOld)
  await when(() => backend.plans.length > 3)
  const next = backend.weights(2)
  engine.setActive(next)
  const onNext = read(engine.generate(request([2], { maxTokens: 100 })))
  const waiting = read(engine.generate(request([3])))
  backend.kill(old)
  await expect(oldReading).rejects.toMatchObject({ code: 'node_failed' })
  expect((await onNext).text).toBe(text(backend.expected(2, [2], { seed: 0 }, 100)))
  expect((await waiting).versions).toEqual([2])

  backend.kill(next)
  const later = read(engine.generate(request([4])))
  await when(() => engine.activeVersion === null)
  expect(engine.load()).toMatchObject({ running: 0 })
  const again = backend.weights(2)
  engine.setActive(again)
  expect((await later).versions).toEqual([2])
})

test('draining resolves when the last request on the version has ended', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const running = read(engine.generate(request([1], { maxTokens: 60 })))
  await when(() => engine.requestsOn(1) === 1)
  engine.setActive(backend.weights(2))
  let drained = false
  const drain = engine.drain(1, 60_000).then(() => (drained = true))
  expect(drained).toBe(false)
  await running
  await drain
  expect(engine.requestsOn(1)).toBe(0)
})

test('the active version cannot be drained', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  await expect(engine.drain(1, 10)).rejects.toMatchObject({ code: 'conflict' })
})

test('at the drain deadline a request the client saw nothing of starts over on the new weights; a streamed one goes on', async () => {
  const { backend, engine } = setup({
    config: { ...CONFIG, contextLength: 100_000 },
    policy: { kvTokens: 200_000 },
  })
  engine.setActive(backend.weights(1))
  const whole = engine.generate(request([1], { maxTokens: 1000, restartable: true }))
  const streamed = engine.generate(request([2], { maxTokens: 1000 }))
  const reading = Promise.all([read(whole), read(streamed)])
  await when(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  await engine.drain(1, 1)
  const [restarted, old] = await reading
  expect(restarted.versions).toEqual([1, 2])
  expect(restarted.text).toBe(text(backend.expected(2, [1], { seed: 0 }, 1000)))
  expect(restarted.outcome).toMatchObject({ weights: { version: 2 }, completionTokens: 1000 })
  expect(old.versions).toEqual([1])
  expect(old.text).toBe(text(backend.expected(1, [2], { seed: 0 }, 1000)))
})

test('with stragglers failed, a streamed request ends with an error at the drain deadline', async () => {
  const { backend, engine } = setup({ config: { ...CONFIG, contextLength: 100_000 }, stragglers: 'fail' })
  engine.setActive(backend.weights(1))
  const streamed = read(engine.generate(request([2], { maxTokens: null })))
  await when(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  await Promise.all([
    expect(streamed).rejects.toMatchObject({ code: 'deadline_exceeded' }),
    engine.drain(1, 1),
  ])
})

test('scores are complete, in order, and survive being preempted', async () => {
  const { backend, engine } = setup({ policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 } })
  const weights = backend.weights(1)
  engine.setActive(weights)
  const tokens = Array.from({ length: 100 }, (_, index) => (index * 37) % 256)
  const alone = await engine.score({ weights, tokens })
  expect(alone).toHaveLength(99)
  const again = engine.score({ weights, tokens })
  await when(() => engine.load().kvTokensUsed > 0)
  const requests = Array.from({ length: 6 }, (_, index) =>
    read(engine.generate(request([index + 1], { maxTokens: 40 }))),
  )
  expect(await again).toEqual(alone)
  await Promise.all(requests)
})

test('scores on other weights than the active ones run there', async () => {
  const { backend, engine } = setup()
  engine.setActive(backend.weights(1))
  const dense = backend.weights(0)
  const nll = await engine.score({ weights: dense, tokens: [1, 2, 3] })
  expect(nll).toHaveLength(2)
  expect(backend.plans.every((plan) => plan.weights === dense)).toBe(true)
})

test('a request gets the room that scoring on other weights holds', async () => {
  const { backend, engine } = setup({ policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 } })
  engine.setActive(backend.weights(1))
  const dense = backend.weights(0)
  const tokens = Array.from({ length: 120 }, (_, index) => index)
  const score = engine.score({ weights: dense, tokens })
  await when(() => backend.kvTokens > 0)
  const prompt = tokens.slice(0, 100)
  const result = await read(engine.generate(request(prompt)))
  expect(result.text).toBe(text(backend.expected(1, prompt, { seed: 0 }, 10)))
  expect(await score).toHaveLength(119)
})

test('scores are refused when they are too short, too long, aborted, too many, or their weights die', async () => {
  const { backend, engine } = setup({ policy: { maxScores: 1 }, onStep: () => sleep(5) })
  const weights = backend.weights(1)
  await expect(engine.score({ weights, tokens: [1] })).rejects.toMatchObject({ code: 'invalid_request' })
  await expect(engine.score({ weights, tokens: Array<number>(129).fill(1) })).rejects.toMatchObject({
    code: 'context_length_exceeded',
  })
  const controller = new AbortController()
  const first = engine.score({ weights, tokens: [1, 2], signal: controller.signal })
  await expect(engine.score({ weights, tokens: [1, 2] })).rejects.toMatchObject({ code: 'overloaded' })
  controller.abort()
  await expect(first).rejects.toMatchObject({ code: 'client_closed_request' })
  const doomed = engine.score({ weights, tokens: [1, 2] })
  backend.kill(weights)
  await expect(doomed).rejects.toMatchObject({ code: 'node_failed' })
})

test('embeddings are the means of all hidden states, whatever runs beside them and however often they give way', async () => {
  const random = createRandom(3)
  const { backend, engine } = setup({ policy: { kvTokens: 128, prefillChunk: 16, maxRunning: 4 } })
  engine.setActive(backend.weights(1))
  const texts = Array.from({ length: 12 }, () =>
    Array.from({ length: 1 + Math.floor(random() * 128) }, () => Math.floor(random() * 256)),
  )
  const generated = Array.from({ length: 8 }, (_, index) =>
    read(engine.generate(request([index + 1], { maxTokens: 60 }))),
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
  await when(() => backend.kvTokens === 0)
})

test('an embedding whose weights are drained starts over on the new ones', async () => {
  const { backend, engine } = setup({
    config: { ...CONFIG, contextLength: 10_000 },
    policy: { prefillChunk: 16 },
  })
  engine.setActive(backend.weights(1))
  const tokens = Array.from({ length: 2000 }, (_, index) => index % 256)
  const { embedding } = engine.embed({ id: 'embedding-1', tokens })
  await when(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  await engine.drain(1, 1)
  expect(await embedding).toEqual({
    embedding: Float32Array.from(backend.expectedEmbedding(2, tokens)),
    maskVersion: 2,
  })
})

test('embeddings are refused when they are empty, too long, late, cancelled, or too many wait', async () => {
  const { backend, engine } = setup({ policy: { maxWaiting: 1 } })
  const embed = (tokens: number[], fields = {}) => engine.embed({ id: 'embedding-2', tokens, ...fields })
  expect(() => embed([])).toThrow(/empty/)
  expect(() => embed([1, 256])).toThrow(expect.objectContaining({ param: 'tokens[1]' }))
  expect(() => embed(Array<number>(129).fill(1))).toThrow(/128 tokens and the text has 129/)
  await expect(embed([1], { deadlineMs: 5 }).embedding).rejects.toMatchObject({ code: 'deadline_exceeded' })
  const controller = new AbortController()
  const waiting = embed([1], { signal: controller.signal })
  expect(() => embed([2])).toThrow(expect.objectContaining({ code: 'overloaded' }))
  expect(engine.underWay()).toMatchObject([{ requestId: 'embedding-2', idleMs: 0 }])
  controller.abort()
  await expect(waiting.embedding).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(await waiting.outcome).toMatchObject({ finishReason: 'cancelled', weights: null, promptTokens: 0 })
  engine.setActive(backend.weights(1))
  expect((await embed(Array<number>(128).fill(1)).embedding).maskVersion).toBe(1)
})

test('every request under way is reported with what it has done, and since when it did nothing', async () => {
  let held: Promise<void> | undefined
  const { backend, engine } = setup({
    policy: { maxRunning: 1 },
    config: { ...CONFIG, contextLength: 10_000 },
    onStep: async () => held,
  })
  engine.setActive(backend.weights(1))
  void read(engine.generate(request([1], { id: 'running-1', maxTokens: null }))).catch(() => {})
  void read(engine.generate(request([2], { id: 'waiting-1' }))).catch(() => {})
  await when(() => backend.plans.length > 2)
  const [running, waiting] = engine.underWay()
  expect(running).toMatchObject({ requestId: 'running-1', promptTokens: 1 })
  expect(running?.completionTokens).toBeGreaterThan(0)
  expect(waiting).toEqual({ requestId: 'waiting-1', promptTokens: 0, completionTokens: 0, idleMs: 0 })
  // A set that takes no step lets only the running one grow idle.
  const { promise, resolve } = Promise.withResolvers<void>()
  held = promise
  await vi.waitUntil(() => (engine.underWay()[0]?.idleMs ?? 0) > 50, { timeout: 10_000, interval: 5 })
  expect(engine.underWay()[1]?.idleMs).toBe(0)
  resolve()
})

test('closing fails everything and refuses what comes', async () => {
  const { backend, engine } = setup({ config: { ...CONFIG, contextLength: 10_000 } })
  engine.setActive(backend.weights(1))
  const running = read(engine.generate(request([1], { maxTokens: null })))
  await when(() => backend.plans.length > 2)
  engine.close()
  await expect(running).rejects.toMatchObject({ code: 'node_failed' })
  expect(() => engine.generate(request([1]))).toThrow(/shutting down/)
})

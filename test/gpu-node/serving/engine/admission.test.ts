/** Tests how requests end, and which are rejected. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished, test, vi } from 'vitest'
import {
  CODEC,
  CONFIG,
  readGeneration,
  request,
  startArithmeticEngine,
  textOf,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'
import { createArithmeticBackend } from '../../../support/doubles/arithmetic-backend.ts'
import { overloaded } from '../../../../gpu-node/src/serving/engine/request-errors.ts'

test('an end token ends the output, adds no text and is not counted', async () => {
  const probe = createArithmeticBackend()
  const end = probe.expected(1, [1], { seed: 0 }, 4)[3]!
  const { backend, engine } = startArithmeticEngine({ config: { ...CONFIG, eosTokenIds: [end] } })
  engine.setActive(backend.weights(1))
  const result = await readGeneration(engine.generate(request([1], { maxTokens: null })))
  expect(result.text).toBe(textOf(probe.expected(1, [1], { seed: 0 }, 3)))
  expect(result.finished).toMatchObject({ reason: 'stop', completionTokens: 3 })
})

test('a stop string ends the output before it, and frees the pages', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  const full = textOf(backend.expected(1, [1], { seed: 0 }, 30))
  const stop = full.slice(5, 8)
  const result = await readGeneration(engine.generate(request([1], { maxTokens: 30, stops: [stop] })))
  expect(result.text).toBe(full.slice(0, full.indexOf(stop)))
  expect(result.finished).toMatchObject({ reason: 'stop' })
  await untilTrue(() => backend.kvTokens === 0)
})

test('special tokens are hidden from the text', async () => {
  const probe = createArithmeticBackend()
  const tokens = probe.expected(1, [1], { seed: 0 }, 10)
  const { backend, engine } = startArithmeticEngine({
    codec: { ...CODEC, isSpecial: (id) => id === tokens[4] },
  })
  engine.setActive(backend.weights(1))
  const result = await readGeneration(engine.generate(request([1])))
  expect(result.text).toBe(textOf(tokens.filter((id) => id !== tokens[4])))
})

test('an aborted request ends at once, and its pages are free after the next step', async () => {
  const { backend, engine } = startArithmeticEngine({ config: { ...CONFIG, contextLength: 100_000 } })
  engine.setActive(backend.weights(1))
  const controller = new AbortController()
  const generation = engine.generate(request([1], { maxTokens: null, signal: controller.signal }))
  const reading = readGeneration(generation)
  const other = readGeneration(engine.generate(request([2], { maxTokens: 200 })))
  await untilTrue(() => backend.plans.length > 20)
  controller.abort()
  const plansThen = backend.plans.length
  await expect(reading).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(await generation.outcome).toMatchObject({
    finishReason: 'cancelled',
    weights: { version: 1 },
    promptTokens: 1,
  })
  expect((await other).text).toBe(textOf(backend.expected(1, [2], { seed: 0 }, 200)))
  const worked = backend.plans.slice(plansThen + 1).flatMap((plan) => plan.work)
  expect(new Set(worked.map((work) => work.sequence)).size).toBe(1)
  await untilTrue(() => engine.load().kvTokensUsed === 0)
})

test('a consumer that stops iterating cancels its request', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  const generation = engine.generate(request([1], { maxTokens: null }))
  for await (const event of generation.events) if (event.type === 'text') break
  expect(await generation.outcome).toMatchObject({ finishReason: 'cancelled' })
})

test('a request aborted before its creation never runs', async () => {
  const { backend, engine } = startArithmeticEngine()
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

test('a deadline fails a waiting and a running request', async () => {
  const { engine, backend } = startArithmeticEngine({ config: { ...CONFIG, contextLength: 1_000_000 } })
  await expect(readGeneration(engine.generate(request([1], { deadlineMs: 5 })))).rejects.toMatchObject({
    code: 'deadline_exceeded',
  })
  // Time passes only where this test says so, not before the request runs.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  engine.setActive(backend.weights(1))
  const running = engine.generate(request([1], { deadlineMs: 20, maxTokens: null }))
  const late = readGeneration(running).catch((error: unknown) => error)
  await untilTrue(() => backend.plans.length > 2)
  vi.advanceTimersByTime(20)
  expect(await late).toMatchObject({ code: 'deadline_exceeded' })
  expect(await running.outcome).toMatchObject({ finishReason: 'error', weights: { version: 1 } })
})

test('a prompt that leaves no room for output is rejected with both numbers', () => {
  const { engine } = startArithmeticEngine()
  expect(() => engine.generate(request(Array<number>(128).fill(1)))).toThrow(
    /128 tokens and the prompt has 128/,
  )
  expect(() => engine.generate(request(Array<number>(500).fill(1)))).toThrow(
    /128 tokens and the prompt has 500/,
  )
})

test('an empty prompt and a token outside the vocabulary are rejected by name', () => {
  const { engine } = startArithmeticEngine()
  expect(() => engine.generate(request([]))).toThrow(/empty/)
  expect(() => engine.generate(request([1, 256]))).toThrow(
    expect.objectContaining({ code: 'invalid_request', param: 'prompt[1]' }),
  )
  expect(() => engine.generate(request([-1]))).toThrow(/0 to 255/)
})

test('a request to a full queue is rejected with the time to retry', () => {
  const { engine } = startArithmeticEngine({ policy: { maxWaiting: 2 } })
  engine.generate(request([1]))
  engine.generate(request([1]))
  expect(() => engine.generate(request([1]))).toThrow(
    expect.objectContaining({
      code: 'overloaded',
      retryAfterS: 1,
      message: 'This node already has 2 requests waiting. Try again in 1 s.',
    }),
  )
})

test('the message of a full queue names the time of the header, which is below a minute', () => {
  expect(overloaded('requests waiting', 2, 600_000)).toMatchObject({
    retryAfterS: 59,
    message: 'This node already has 2 requests waiting. Try again in 59 s.',
  })
})

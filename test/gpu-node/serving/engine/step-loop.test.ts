/** Tests weight sets that are added, drained and fail while requests run. */
import { expect, onTestFinished, test, vi } from 'vitest'
import type { EngineState } from '../../../../gpu-node/src/serving/engine/engine-state.ts'
import {
  CONFIG,
  readGeneration,
  request,
  startArithmeticEngine,
  textOf,
  untilTrue,
} from '../../../support/doubles/arithmetic-engine.ts'
import { checkInvariants } from '../../../support/engine/engine-invariants.ts'
import { createRandom } from '../../../support/harness/random.ts'

test('during swaps under load every output names one version and equals that of the version alone', async () => {
  const random = createRandom(9)
  const { backend, engine } = startArithmeticEngine({
    policy: { kvTokens: 256, prefillChunk: 16, maxRunning: 4, maxWaiting: 200 },
  })
  engine.setActive(backend.weights(1))
  const running: Promise<void>[] = []
  const seen = new Set<number>()
  for (let index = 0; index < 80; index++) {
    const prompt = Array.from({ length: 1 + Math.floor(random() * 60) }, () => Math.floor(random() * 256))
    running.push(
      readGeneration(engine.generate(request(prompt, { maxTokens: 20, partition: 'a' }))).then((result) => {
        expect(result.versions).toHaveLength(1)
        seen.add(result.versions[0]!)
        expect(result.text).toBe(textOf(backend.expected(result.versions[0]!, prompt, { seed: 0 }, 20)))
      }),
    )
    if (index % 20 === 19) engine.setActive(backend.weights(2 + index))
    for (let turn = Math.floor(random() * 8); turn > 0; turn--)
      await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(running)
  expect(seen.size).toBeGreaterThan(2)
})

test('a rejected step fails the requests in it; others on the set continue', async () => {
  let failNext = false
  const { backend, engine } = startArithmeticEngine({
    policy: { maxRunning: 1 },
    onStep: async () => {
      if (!failNext) return
      failNext = false
      throw new Error('secret path /x')
    },
  })
  engine.setActive(backend.weights(1))
  const first = readGeneration(engine.generate(request([1], { maxTokens: 50 })))
  const second = readGeneration(engine.generate(request([2])))
  failNext = true
  await expect(first).rejects.toMatchObject({
    code: 'node_failed',
    message: expect.not.stringContaining('secret'),
  })
  expect((await second).text).toBe(textOf(backend.expected(1, [2], { seed: 0 }, 10)))
})

test('a request that has restarted on other weights is not failed by a step that it has left', async () => {
  const failing = Promise.withResolvers<void>()
  const { backend, engine } = startArithmeticEngine({
    policy: { maxRunning: 4 },
    onStep: async ({ weights: { version }, work }) => {
      if (version === 1 && work.some(({ position }) => position > 4)) await failing.promise
    },
  })
  engine.setActive(backend.weights(1))
  const restartable = readGeneration(engine.generate(request([1], { maxTokens: 50, restartable: true })))
  const streamed = readGeneration(engine.generate(request([2], { maxTokens: 50 })))
  await untilTrue(() => backend.plans.length > 4)
  engine.setActive(backend.weights(2))
  const drained = engine.drain(1, 0)
  await untilTrue(() => backend.plans.some(({ weights }) => weights.version === 2))
  failing.reject(new Error('the step failed'))
  await expect(streamed).rejects.toMatchObject({ code: 'node_failed' })
  await drained
  expect((await restartable).text).toBe(textOf(backend.expected(2, [1], { seed: 0 }, 50)))
})

test('a weight set that fails ends only its requests; waiting ones run on the set that replaces it', async () => {
  const { backend, engine } = startArithmeticEngine({
    policy: { maxRunning: 2 },
    config: { ...CONFIG, contextLength: 10_000 },
  })
  const old = backend.weights(1)
  engine.setActive(old)
  const onOld = engine.generate(request([1], { maxTokens: 5000 }))
  const oldReading = readGeneration(onOld)
  await untilTrue(() => backend.plans.length > 3)
  const next = backend.weights(2)
  engine.setActive(next)
  const onNext = readGeneration(engine.generate(request([2], { maxTokens: 100 })))
  const waiting = readGeneration(engine.generate(request([3])))
  backend.kill(old)
  await expect(oldReading).rejects.toMatchObject({ code: 'node_failed' })
  expect((await onNext).text).toBe(textOf(backend.expected(2, [2], { seed: 0 }, 100)))
  expect((await waiting).versions).toEqual([2])

  backend.kill(next)
  const later = readGeneration(engine.generate(request([4])))
  await untilTrue(() => engine.activeVersion === null)
  expect(engine.load()).toMatchObject({ running: 0 })
  const again = backend.weights(2)
  engine.setActive(again)
  expect((await later).versions).toEqual([2])
})

test('nothing is kept of a weight set that ends during a step which drops sequences', async () => {
  const step = Promise.withResolvers<void>()
  let isDropping = false
  let state: EngineState | undefined
  const { backend, engine } = startArithmeticEngine({
    inspect: (inspected, policy) => {
      state = inspected
      checkInvariants(inspected, policy)
    },
    onStep: async ({ drop }) => {
      isDropping ||= drop.length > 0
      if (isDropping) await step.promise
    },
  })
  const weights = backend.weights(1)
  engine.setActive(weights)
  const running = readGeneration(engine.generate(request([1], { maxTokens: 100 })))
  await readGeneration(engine.generate(request([2])))
  await untilTrue(() => isDropping)
  backend.kill(weights)
  await expect(running).rejects.toMatchObject({ code: 'node_failed' })
  step.resolve()
  await untilTrue(() => (state?.abandoned.size ?? 1) === 0)
  expect([...state!.drops]).toEqual([])
  expect([...state!.pages.cached]).toEqual([])
})

test('draining resolves when the last request on the version has ended', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  const running = readGeneration(engine.generate(request([1], { maxTokens: 60 })))
  await untilTrue(() => engine.requestsOn(1) === 1)
  engine.setActive(backend.weights(2))
  let drained = false
  const drain = engine.drain(1, 60_000).then(() => (drained = true))
  expect(drained).toBe(false)
  await running
  await drain
  expect(engine.requestsOn(1)).toBe(0)
})

test('a drain waits for holders of the version', async () => {
  const { backend, engine } = startArithmeticEngine()
  const held = backend.weights(1)
  engine.setActive(held)
  const [release, releaseToo] = [engine.hold(held), engine.hold(held)]
  engine.setActive(backend.weights(2))
  let drained = false
  const drain = engine.drain(1, 1).then(() => (drained = true))
  release()
  release()
  await new Promise((resolve) => setTimeout(resolve, 5))
  expect(drained).toBe(false)
  releaseToo()
  await drain
})

test('a streamed request that outlives the drain is ended by its own deadline, and the drain with it', async () => {
  // Time passes only where this test says so, not before the request runs.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  onTestFinished(() => void vi.useRealTimers())
  const { backend, engine } = startArithmeticEngine({ config: { ...CONFIG, contextLength: 100_000 } })
  engine.setActive(backend.weights(1))
  const streamed = engine.generate(request([2], { maxTokens: null, deadlineMs: 500 }))
  const ended = readGeneration(streamed).catch((error: unknown) => error)
  await untilTrue(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  const drained = engine.drain(1, 1)
  vi.advanceTimersByTime(499)
  const late = backend.plans.length
  await untilTrue(() => backend.plans.length > late + 10)
  vi.advanceTimersByTime(1)
  expect(await ended).toMatchObject({ code: 'deadline_exceeded' })
  await drained
})

test('the active version cannot be drained', async () => {
  const { backend, engine } = startArithmeticEngine()
  engine.setActive(backend.weights(1))
  await expect(engine.drain(1, 10)).rejects.toMatchObject({ code: 'conflict' })
})

test('at the drain deadline a request without sent output restarts on the new weights; a streamed one continues', async () => {
  const { backend, engine } = startArithmeticEngine({
    config: { ...CONFIG, contextLength: 100_000 },
    policy: { kvTokens: 200_000 },
  })
  engine.setActive(backend.weights(1))
  const whole = engine.generate(request([1], { maxTokens: 1000, restartable: true }))
  const streamed = engine.generate(request([2], { maxTokens: 1000 }))
  const reading = Promise.all([readGeneration(whole), readGeneration(streamed)])
  await untilTrue(() => backend.plans.length > 10)
  engine.setActive(backend.weights(2))
  await engine.drain(1, 1)
  const [restarted, old] = await reading
  expect(restarted.versions).toEqual([1, 2])
  expect(restarted.text).toBe(textOf(backend.expected(2, [1], { seed: 0 }, 1000)))
  expect(restarted.outcome).toMatchObject({ weights: { version: 2 }, completionTokens: 1000 })
  expect(old.versions).toEqual([1])
  expect(old.text).toBe(textOf(backend.expected(1, [2], { seed: 0 }, 1000)))
})

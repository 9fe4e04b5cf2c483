/** What is the sparse engine's own: shared pages, panics, swaps and memory. The contract is tested elsewhere. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test } from 'vitest'
import type { SequenceWork, WeightSet } from '../../../../gpu-node/src/backends/backend.ts'
import {
  createSparseBackend,
  type SparseBackend,
  type SparseBackendOptions,
} from '../../../../gpu-node/src/backends/sparse/backend.ts'
import { checkMask } from '../../../../gpu-node/src/backends/sparse/mask-places.ts'
import { createModelEngine } from '../../../../gpu-node/src/backends/sparse/model-engine.ts'
import type { Engine } from '../../../../gpu-node/src/engine/api.ts'
import { createEngine } from '../../../../gpu-node/src/engine/engine.ts'
import type { GenerateRequest } from '../../../../gpu-node/src/engine/generation.ts'
import { checkInvariants } from '../../../../gpu-node/src/engine/invariants.ts'
import type { Addon } from '../../../../gpu-node/native/addon.d.ts'
import { addon } from '../../../support/backends.ts'
import { GREEDY } from '../../../support/greedy.ts'
import { randomHalfMask } from '../../../support/masks.ts'
import { createRandom } from '../../../support/random.ts'
import { temporaryDir } from '../../../support/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/tiny-model.ts'
import type { TinyLlamaOptions } from '../../../support/tiny-llama.ts'

if (addon) testSparse(addon)
else testWithoutAddon()

function testWithoutAddon(): void {
  test('without cargo there is no sparse engine to test', () => expect(addon).toBeNull())
}

function testSparse(built: Addon): void {
  async function open(options: TinyLlamaOptions = {}): Promise<TinyModel> {
    const tiny = await openTinyModel(options)
    onTestFinished(() => tiny.remove())
    return tiny
  }

  const newBackend = (options: Partial<SparseBackendOptions> = {}): SparseBackend =>
    createSparseBackend({ addon: built, threads: 2, ...options })

  async function maskOf({ model }: Pick<TinyModel, 'model'>, seed: number): Promise<string> {
    const path = join(temporaryDir(), 'mask.safetensors')
    await writeFile(path, randomHalfMask(model, seed).bytes)
    return path
  }

  const load = (backend: SparseBackend, { model }: TinyModel, version = 0, maskPath: string | null = null) =>
    backend.load({ model, version, maskPath, priority: 'serving' })

  const feeding = (sequence: number, count: number): SequenceWork => ({
    sequence,
    tokens: new Int32Array(count).fill(7),
    position: 0,
    output: 'none',
  })

  async function refusal(promise: Promise<unknown>): Promise<AppError> {
    const failure: unknown = await promise.catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(AppError)
    return failure as AppError
  }

  test('a step that needs more pages than are free is refused and takes none', async () => {
    const backend = newBackend({ kvTokens: 256, sequences: 1 })
    const tiny = await open({ contextLength: 1024 })
    const weights = await load(backend, tiny)
    // As many pages as the scheduler gives out, and one for each of the sequences that may leave theirs half empty.
    await backend.step({ weights, work: [feeding(1, 800)], drop: [] })
    expect(backend.usage().ownPages).toBe(50)
    const failure = await refusal(
      backend.step({ weights, work: [feeding(2, 16), feeding(3, 160)], drop: [] }),
    )
    expect(failure.code).toBe('overloaded')
    expect(failure.message).toMatch(/The step needs 11 more pages of 16 tokens, and 7 of 57 are free/)
    expect(backend.usage()).toMatchObject({ sequences: 1, ownPages: 50 })
    await backend.step({ weights, work: [feeding(2, 160)], drop: [1] })
    expect(backend.usage()).toMatchObject({ sequences: 1, ownPages: 10 })
    await backend.release(weights)
    expect(backend.usage()).toMatchObject({ sequences: 0, ownPages: 0 })
  })

  test('a panic in a step fails that step alone', async () => {
    const backend = newBackend()
    const weights = await load(backend, await open())
    const work = [feeding(1, 9)]
    await backend.step({ weights, work, drop: [] })
    backend.provokePanic()
    const failure = await refusal(backend.step({ weights, work, drop: [] }))
    expect(failure.code).toBe('node_failed')
    expect(failure.message).toContain('panicked: provoked')
    const { outputs } = await backend.step({ weights, work, drop: [1] })
    expect(outputs).toEqual([{ kind: 'none' }])
    await backend.release(weights)
  })

  test.each(['int8', 'int4'] as const)('%s weights answer too', async (precision) => {
    const backend = newBackend({ precision })
    const weights = await load(backend, await open())
    const sampler = { ...GREEDY, topLogprobs: 1, promptTokens: 3 }
    const work: SequenceWork = {
      sequence: 1,
      tokens: Int32Array.of(1, 2, 3),
      position: 0,
      output: 'token',
      sampler,
    }
    const { outputs } = await backend.step({ weights, work: [work], drop: [] })
    expect(outputs[0]).toMatchObject({ kind: 'token', logprob: expect.any(Number) })
    await backend.release(weights)
  })

  test('shared beginnings, few pages and many streams: tokens and log-probabilities are those of each alone, to the bit', async () => {
    const tiny = await open({ contextLength: 512 })
    // Sixteen pages: two or three of the requests fit.
    const kvTokens = 256
    const backend = newBackend({ kvTokens })
    const weights = await load(backend, tiny, 1, await maskOf(tiny, 1))
    const random = createRandom(8)
    const some = (count: number) => Array.from({ length: count }, () => Math.floor(random() * 300))
    const beginning = some(90)
    const requests = Array.from({ length: 10 }, (_, index) => ({
      id: `request-${index}`,
      prompt: [...beginning.slice(0, 30 + 6 * index), ...some(index)],
      maxTokens: 70,
      stops: [],
      sampling: {
        ...GREEDY,
        topLogprobs: 2,
        ...(index % 2 ? { temperature: 1, seed: index, repetitionPenalty: 1.2 } : {}),
      },
      restartable: false,
    }))
    let preemptions = 0
    const newEngine = () =>
      createEngine({
        backend,
        config: tiny.model.config,
        codec: tiny.model.codec,
        policy: { kvTokens, prefillChunk: 32, maxRunning: 8 },
        inspect: (state, policy) => {
          checkInvariants(state, policy)
          preemptions += state.requests.filter(({ status }) => status.kind === 'waiting' && status.pin).length
        },
      })
    const answerOf = async (engine: Engine, request: GenerateRequest) => {
      const tokens: unknown[] = []
      let cached = 0
      for await (const event of engine.generate(request).events) {
        if (event.type === 'text') tokens.push(...event.tokens)
        if (event.type === 'finished') cached = event.cachedTokens
      }
      return { tokens, cached }
    }
    const alone = newEngine()
    alone.setActive(weights)
    const expected: unknown[] = []
    for (const request of requests) expected.push((await answerOf(alone, request)).tokens)
    expect(preemptions).toBe(0)
    alone.close()

    const engine = newEngine()
    engine.setActive(weights)
    const first = await answerOf(engine, { ...requests[9]!, partition: 'a' })
    const together = await Promise.all(
      requests.map((request) => answerOf(engine, { ...request, partition: 'a' })),
    )
    expect([first.tokens, ...together.map(({ tokens }) => tokens)]).toEqual([expected[9], ...expected])
    expect(first.cached).toBe(0)
    expect(together.some(({ cached }) => cached >= 16)).toBe(true)
    expect(preemptions).toBeGreaterThan(0)
    engine.close()
    await backend.release(weights)
  })

  test('swaps under random load: every answer is that of one mask alone, and nothing stays behind', async () => {
    const tiny = await open({ contextLength: 512 })
    const backend = newBackend()
    const random = createRandom(5)
    const paths = await Promise.all([1, 2, 3].map((seed) => maskOf(tiny, seed)))
    const prompts = Array.from({ length: 12 }, (_, i) =>
      Array.from({ length: 1 + ((i * 29) % 90) }, () => Math.floor(random() * 300)),
    )
    const request = (prompt: number) => ({
      id: `request-${prompt}`,
      prompt: prompts[prompt]!,
      maxTokens: 12,
      stops: [],
      sampling: { ...GREEDY, topLogprobs: 0, ...(prompt % 2 ? { temperature: 1, seed: prompt } : {}) },
      restartable: false,
      partition: 'a',
    })
    const newEngine = () => createEngine({ backend, config: tiny.model.config, codec: tiny.model.codec })
    const answerOf = async (engine: ReturnType<typeof newEngine>, prompt: number) => {
      let version = -1
      const tokens: number[] = []
      for await (const event of engine.generate(request(prompt)).events) {
        if (event.type === 'pinned') version = event.maskVersion
        if (event.type === 'text') tokens.push(...event.tokens.map(({ token }) => token))
      }
      return { version, tokens }
    }

    const alone = new Map<string, number[]>()
    for (const [i, path] of paths.entries()) {
      const weights = await load(backend, tiny, i + 1, path)
      const engine = newEngine()
      engine.setActive(weights)
      for (const prompt of prompts.keys())
        alone.set(`${i + 1}/${prompt}`, (await answerOf(engine, prompt)).tokens)
      engine.close()
      await backend.release(weights)
    }

    const engine = newEngine()
    let active = await load(backend, tiny, 1, paths[0])
    engine.setActive(active)
    let swapping = true
    let answered = 0
    const versions = new Set<number>()
    const client = async (seed: number) => {
      const choose = createRandom(seed)
      while (swapping) {
        const prompt = Math.floor(choose() * prompts.length)
        const { version, tokens } = await answerOf(engine, prompt)
        expect(tokens, `prompt ${prompt} on ${version}`).toEqual(alone.get(`${version}/${prompt}`))
        versions.add(version)
        answered += 1
      }
    }
    const swaps = async () => {
      for (let swap = 1; swap <= 12; swap++) {
        const version = 1 + (swap % 3)
        const next: WeightSet = await load(backend, tiny, version, paths[version - 1])
        engine.setActive(next)
        await engine.drain(active.version, 30_000)
        await backend.release(active)
        active = next
      }
      swapping = false
    }
    await Promise.all([swaps(), ...[11, 12, 13, 14, 15].map(client)])
    expect(versions).toEqual(new Set([1, 2, 3]))
    expect(answered).toBeGreaterThan(12)
    engine.close()
    await backend.release(active)
    expect(backend.usage()).toMatchObject({ sequences: 0, ownPages: 0 })
  })

  test('resident memory is flat over 60 swaps', async () => {
    const { model } = await open({ hiddenSize: 256, intermediateSize: 512, layers: 4, heads: 8, headDim: 32 })
    const { config, master } = model
    const path = await maskOf({ model }, 1)
    const places = await checkMask(path, config, master)
    const options = { kernel: null, threads: 2, precision: 'bf16', kvTokens: 1024, sequences: 2 } as const
    const engine = createModelEngine(built, config, options)
    let weights = await engine.load(model, path, places, 2)
    const swap = async () => {
      const next = await engine.load(model, path, places, 2)
      await engine.step(next, [feeding(1, 40)], [], async () => undefined)
      await engine.release(weights)
      weights = next
    }
    for (let i = 0; i < 20; i++) await swap()
    const before = process.memoryUsage().rss
    for (let i = 0; i < 60; i++) await swap()
    // A set has more than 2.5 MB: one that stayed in five would show.
    expect(weights.bytes).toBeGreaterThan(2.5e6)
    expect(process.memoryUsage().rss - before).toBeLessThan(30e6)
    expect(engine.usage()).toMatchObject({ sequences: 1, ownPages: 3 })
    await engine.release(weights)
  })
}

/** Tests what is specific to the sparse engine: shared pages, panics, swaps and memory. contract.test.ts tests the contract. */
import { execFileSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { open as openFile, readFile, writeFile } from 'node:fs/promises'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { expect, onTestFinished, test } from 'vitest'
import type { SequenceWork } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import {
  createSparseBackend,
  type SparseBackendOptions,
} from '../../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import type { EngineBackend } from '../../../../../gpu-node/src/serving/backends/sparse/engine-backend.ts'
import { createModelEngine } from '../../../../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import type { Engine } from '../../../../../gpu-node/src/serving/engine/engine-api.ts'
import { createEngine } from '../../../../../gpu-node/src/serving/engine/engine.ts'
import type { GenerateRequest } from '../../../../../gpu-node/src/serving/engine/generation-request.ts'
import { checkInvariants } from '../../../../support/engine/engine-invariants.ts'
import type { Addon, Engine as NativeEngine, EngineWeights } from '../../../../../gpu-node/native/addon.d.ts'
import { addon } from '../../../../support/engine/backends.ts'
import { TINY_NATIVE_ENGINE } from '../../../../support/engine/tiny-native-engine.ts'
import { ENGINE_OPTIONS } from '../../../../support/engine/engine-options.ts'
import { GREEDY } from '../../../../../gpu-node/src/serving/contract/greedy.ts'
import { collectGarbage } from '../../../../support/harness/collect-garbage.ts'
import { skipWithoutAddon } from '../../../../support/harness/skip-without-addon.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { createRandom } from '../../../../support/harness/random.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'
import type { TinyLlamaOptions } from '../../../../support/models/tiny-llama.ts'

if (addon) testSparse(addon)
else skipWithoutAddon('the sparse engine')

function testSparse(built: Addon): void {
  async function open(options: TinyLlamaOptions = {}): Promise<TinyModel> {
    const tiny = await openTinyModel(options)
    onTestFinished(() => tiny.remove())
    return tiny
  }

  const newBackend = (options: Partial<SparseBackendOptions> = {}): EngineBackend =>
    createSparseBackend({ addon: built, threads: 2, ...options })

  async function maskOf({ model }: Pick<TinyModel, 'model'>, seed: number): Promise<string> {
    const path = join(temporaryDir(), 'mask.safetensors')
    await writeFile(path, randomHalfMask(model, seed).bytes)
    return path
  }

  const load = (backend: EngineBackend, { model }: TinyModel, version = 0, maskPath: string | null = null) =>
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

  test('a step that needs more pages than are free is rejected and allocates none', async () => {
    const backend = newBackend({ kvTokens: 256, ownTokens: 656 })
    const tiny = await open({ contextLength: 1024 })
    const weights = await load(backend, tiny)
    await backend.step({ weights, work: [feeding(1, 800)], drop: [] })
    expect(backend.usage().ownPages).toBe(50)
    const failure = await refusal(
      backend.step({ weights, work: [feeding(2, 16), feeding(3, 160)], drop: [] }),
    )
    expect(failure.code).toBe('overloaded')
    expect(failure.message).toMatch(/The step needs 11 more pages of 16 tokens, but only 7 of 57 are free/)
    expect(backend.usage()).toMatchObject({ sequences: 1, ownPages: 50 })
    await backend.step({ weights, work: [feeding(2, 160)], drop: [1] })
    expect(backend.usage()).toMatchObject({ sequences: 1, ownPages: 10 })
    await backend.release(weights)
    expect(backend.usage()).toMatchObject({ sequences: 0, ownPages: 0 })
  })

  test('a cache may take more than half of the memory of the machine', async () => {
    const tiny = await open({ layers: 16, heads: 8, kvHeads: 8, headDim: 64 })
    const { layers, kvHeads, headDim } = tiny.model.config
    // Keys and values in f16; no memory is taken before it is used.
    const kvTokens = Math.floor((0.7 * totalmem()) / (layers * kvHeads * headDim * 4))
    const backend = newBackend({ kvTokens })
    const weights = await load(backend, tiny)
    expect(backend.usage().pages, 'the trial writes to pages of its own').toBe(0)
    await backend.step({ weights, work: [feeding(1, 17)], drop: [] })
    expect(backend.usage().pages).toBe(2)
    await backend.release(weights)
  })

  test('a cache too large for the machine is rejected with the setting to change', async () => {
    const tiny = await open({ layers: 16, heads: 8, kvHeads: 8, headDim: 64 })
    await expect(load(newBackend({ kvTokens: 2e8 }), tiny)).rejects.toMatchObject({
      code: 'node_failed',
      message: expect.stringMatching(
        /no memory for .* fewer tokens\. COPAL_KV_TOKENS says how many\.$/,
      ) as string,
    })
  })

  test('on a machine with more processors than the thread limit the engine uses the limit', async () => {
    const asked: number[] = []
    // This test does not start that many threads.
    const watched = {
      ...built,
      Engine: new Proxy(built.Engine, {
        construct(target, [options]: ConstructorParameters<Addon['Engine']>) {
          asked.push(options.threads)
          return new target({ ...options, threads: 1 })
        },
      }),
    }
    const backend = newBackend({ addon: watched, threads: 384 })
    await backend.release(await load(backend, await open()))
    expect(asked).toEqual([256])
    expect(() => new built.Engine({ ...TINY_NATIVE_ENGINE, threads: 257 })).toThrow(
      'threads must be a whole number from 1 to 256',
    )
  })

  test.skipIf(process.platform === 'win32')(
    'a step does not wait while other work, such as grammar masks, occupies all libuv threads',
    async () => {
      const backend = newBackend()
      const weights = await load(backend, await open())
      // Each reader of a pipe occupies a thread until the pipe has a writer.
      const pipe = join(temporaryDir(), 'pipe')
      execFileSync('mkfifo', [pipe])
      let opened = 0
      const readers = Array.from({ length: Number(process.env.UV_THREADPOOL_SIZE ?? 4) }, async () => {
        const reader = await openFile(pipe)
        opened += 1
        await reader.close()
      })
      onTestFinished(async () => {
        const writer = openSync(pipe, 'r+')
        await Promise.all(readers)
        closeSync(writer)
        await backend.release(weights)
      })
      const { outputs } = await backend.step({ weights, work: [feeding(1, 9)], drop: [] })
      expect([outputs, opened]).toEqual([[{ kind: 'none' }], 0])
    },
  )

  test('steps and releases run in the order of their calls', async () => {
    const { model } = await open({ contextLength: 64 })
    const raw: NativeEngine[] = []
    const watched = {
      ...built,
      Engine: new Proxy(built.Engine, {
        construct(target, args: ConstructorParameters<Addon['Engine']>) {
          raw.push(new target(...args))
          return raw[0]!
        },
      }),
    }
    const options = { ...ENGINE_OPTIONS, kvTokens: 64, ownTokens: 64 }
    const loader = createModelEngine(watched, model.config, options)
    const engine = raw[0]!
    const tokens = Int32Array.from({ length: 48 }, (_, i) => (7 * i) % 300)
    /** Scores the next piece of the text. */
    const score = (weights: EngineWeights, position: number) => {
      const piece = tokens.slice(position, position + 12)
      return engine.step(weights, {
        sequences: Float64Array.of(1),
        positions: Int32Array.of(position),
        lengths: Int32Array.of(12),
        outputs: Uint8Array.of(2),
        alternatives: Uint8Array.of(0),
        cachedLengths: Int32Array.of(0),
        pageCounts: Int32Array.of(3),
        tokens: piece,
        targets: piece,
        pages: Int32Array.of(0, 1, 2),
        drops: new Float64Array(0),
      })
    }
    built.poisonFreed(true)
    onTestFinished(() => built.poisonFreed(false))
    const results: Float32Array[][] = []
    for (const atOnce of [false, true]) {
      const weights = await loader.load(model, null, new Map(), 1)
      const steps: Promise<Float32Array>[] = []
      for (const position of [0, 12, 24, 36]) {
        steps.push(score(weights, position))
        if (!atOnce) await steps.at(-1)
      }
      const released = engine.release(weights)
      results.push(await Promise.all(steps))
      expect(() => score(weights, 0)).toThrow(
        expect.objectContaining({ code: 'InvalidState', message: 'these weights were released' }),
      )
      await released
      expect(engine.usage().sequences).toBe(0)
    }
    expect(results[1]).toEqual(results[0])
  })

  test('new weights that are tried beside the steps give the logits of a step', async () => {
    const tiny = await open()
    const vocab = tiny.model.config.vocabSize
    const options = { ...ENGINE_OPTIONS, kvTokens: 64, ownTokens: 64 }
    const engine = createModelEngine(built, tiny.model.config, options)
    const weights = await engine.load(tiny.model, null, new Map(), 1)
    const tokens = Int32Array.of(3, 14, 159, 26)
    const expected = new Float32Array(vocab)
    const work: SequenceWork = { sequence: 1, tokens, position: 0, output: 'token' }
    await engine.step(weights, [work], [], async (_, logits) => logits.read(0, expected))
    const tried = await engine.tryOut(weights, tokens)
    expect(tried).toHaveLength(2 * vocab)
    expect(tried?.subarray(0, vocab), 'at once').toEqual(expected)
    expect(tried?.subarray(vocab), 'with a cache').toEqual(expected)

    expect(() => engine.native.tryOut?.(weights, tokens.subarray(0, 1))).toThrow(
      'a prompt of 2 to 16 tokens is tried, not of 1',
    )
    const unknown = await refusal(engine.tryOut(weights, Int32Array.of(1, vocab)) ?? Promise.resolve())
    expect(unknown.message).toContain(`token ${vocab} is not in the vocabulary`)
    await engine.release(weights)
    expect(() => engine.native.tryOut?.(weights, tokens)).toThrow('these weights were released')
    await engine.close()
  })

  test.runIf(process.platform === 'linux')('a model that is left gives its memory back', async () => {
    const tiny = await open({ hiddenSize: 256, intermediateSize: 1024, layers: 4, heads: 8, headDim: 32 })
    const maskPath = await maskOf(tiny, 1)
    const loadAndLeave = async () => {
      const backend = newBackend({ ownTokens: 512 })
      const before = await anonymousBytes()
      const weights = await load(backend, tiny, 1, maskPath)
      await backend.step({ weights, work: [feeding(1, 256)], drop: [] })
      const taken = (await anonymousBytes()) - before
      await backend.release(weights)
      return { taken, left: await anonymousBytes(), bytes: weights.bytes ?? 0 }
    }
    // The process allocates some memory once, such as the stacks of its threads.
    const { left: before, bytes } = await loadAndLeave()
    expect(bytes).toBeGreaterThan(4e6)
    // JavaScript takes and frees a megabyte of its own now and then; what a model keeps adds up.
    const rounds = 8
    const taken = []
    let left = before
    for (let round = 0; round < rounds; round++) {
      const used = await loadAndLeave()
      taken.push(used.taken)
      left = used.left
    }
    expect(Math.max(...taken)).toBeGreaterThan(0.9 * bytes)
    expect(left - before).toBeLessThan(0.25 * rounds * bytes)
  })

  test('a panic in a step fails only that step', async () => {
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

  test.each([
    ['bf16', 'bf16', 0.03],
    ['int8', 'int8', 0.03],
    ['int8', 'int4', 0.03],
    ['int4', 'int8', 0.3],
    ['int4', 'int4', 0.3],
  ] as const)('%s weights with a head in %s answer as those of bf16 and int8 do', async (...form) => {
    const [precision, headPrecision, most] = form
    const tiny = await open()
    const tokens = Int32Array.from({ length: 40 }, (_, i) => (i * 37 + 5) % 256)
    const answersOf = async (options: Partial<SparseBackendOptions>) => {
      const backend = newBackend({ ...options, ownTokens: 256 })
      const weights = await load(backend, tiny)
      const sampler = { ...GREEDY, topLogprobs: 1, promptTokens: 40 }
      const hidden: SequenceWork = { sequence: 1, tokens, position: 0, output: 'hidden_sum' }
      const next: SequenceWork = { sequence: 2, tokens, position: 0, output: 'token', sampler }
      const { outputs } = await backend.step({ weights, work: [hidden, next], drop: [] })
      await backend.release(weights)
      const [sums, token] = outputs
      if (sums?.kind !== 'hidden_sum' || token?.kind !== 'token') throw new Error('other outputs')
      return { sums: sums.sum, logprob: token.logprob ?? Number.NaN }
    }
    const [expected, found] = [await answersOf({}), await answersOf({ precision, headPrecision })]
    const norm = (values: Float32Array) => Math.hypot(...values)
    const off = norm(found.sums.map((value, i) => value - expected.sums[i]!)) / norm(expected.sums)
    expect(off).toBeLessThan(most)
    expect(Math.abs(found.logprob - expected.logprob)).toBeLessThan(0.5)
  })

  test('with shared prefixes, few pages and many streams, tokens and log-probabilities equal those of each alone, bit for bit', async () => {
    const tiny = await open({ contextLength: 512 })
    // Sixteen pages fit two or three of the requests.
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
}

/** Returns the memory of this process that belongs to no file, without JavaScript's garbage. */
async function anonymousBytes(): Promise<number> {
  collectGarbage()
  const status = await readFile('/proc/self/status', 'utf8')
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1])
}

/** Tests what is specific to the GPU backend: a lost device and too little memory. contract.test.ts tests the contract. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, onTestFinished, test, vi } from 'vitest'
import type { AppError } from '@copal/shared/errors.ts'
import type { GpuAddon, GpuErrorCode } from '../../../../../gpu-node/gpu/addon.d.ts'
import {
  createGpuBackend,
  type GpuBackend,
} from '../../../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import type {
  Backend,
  SamplerSpec,
  SequenceWork,
  WeightSet,
} from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { chooseBackend } from '../../../../../gpu-node/src/serving/backends/choose-backend.ts'
import { createSparseBackend } from '../../../../../gpu-node/src/serving/backends/sparse/sparse-backend.ts'
import { createEngine } from '../../../../../gpu-node/src/serving/engine/engine.ts'
import { createMaskSwap } from '../../../../../gpu-node/src/serving/masks/mask-swap.ts'
import { memoryLog } from '../../../../support/doubles/memory-log.ts'
import {
  generateWork,
  randomTokens,
  Steps,
  tokenIds,
  type Token,
} from '../../../../support/engine/backend-steps.ts'
import { addon as native } from '../../../../support/engine/backends.ts'
import { gpu, GPU_DEVICE, skipWithoutGpu } from '../../../../support/engine/gpu.ts'
import { maskOf } from '../../../../support/engine/token-masks.ts'
import { temporaryDir } from '../../../../support/harness/temporary.ts'
import { WAIT } from '../../../../support/harness/wait.ts'
import { halfMaskFile, TARGETS, TOKENS } from '../../../../support/models/masked-scores.ts'
import { randomHalfMask } from '../../../../support/models/random-masks.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

if ('addon' in gpu) testGpu(gpu.addon)
else skipWithoutGpu('the GPU backend')

function testGpu(addon: GpuAddon): void {
  async function open(): Promise<TinyModel> {
    const tiny = await openTinyModel()
    onTestFinished(() => tiny.remove())
    return tiny
  }

  let logitReads = 0
  /** Rows of each download. */
  let downloads: number[] = []
  /** Bytes of the results of all steps, without logits. */
  let resultBytes = 0
  const openCounting: GpuAddon['openEngine'] = async (options) => {
    const engine = await addon.openEngine(options)
    const [downloadLogits, logits] = [engine.downloadLogits.bind(engine), engine.logits.bind(engine)]
    const step = engine.step.bind(engine)
    engine.downloadLogits = (rows) => {
      downloads.push(rows.length)
      return downloadLogits(rows)
    }
    engine.logits = (row, into) => {
      logitReads += 1
      logits(row, into)
    }
    engine.step = async (weights, work) => {
      const results = await step(weights, work)
      resultBytes += results.byteLength
      return results
    }
    return engine
  }
  const downloadedRows = () => downloads.reduce((sum, rows) => sum + rows, 0)

  /** One dense set for all tests that only run steps. */
  let serving: Promise<Steps> | undefined
  afterAll(async () => {
    const steps = await serving
    if (steps) await steps.backend.release(steps.weights)
  })
  function served(): Promise<Steps> {
    serving ??= openTinyModel().then(async (tiny) => {
      const counting = { ...addon, openEngine: openCounting }
      const backend = createGpuBackend({
        addon: counting,
        device: GPU_DEVICE,
        kvTokens: 1024,
        ownTokens: 1024,
      })
      const weights = await load(backend, tiny)
      await tiny.remove()
      return new Steps(backend, weights)
    })
    return serving
  }

  const load = (backend: GpuBackend, { model }: TinyModel) =>
    backend.load({ model, version: 0, maskPath: null, priority: 'serving' })

  test('tokens from candidates are those from whole logits', async () => {
    const steps = await served()
    const settings: Partial<SamplerSpec>[] = [
      { topLogprobs: 3 },
      { temperature: 1, topK: 40 },
      { temperature: 1.5, topP: 0.9 },
      { temperature: 0.3, topP: 0.99, topLogprobs: 20 },
      { temperature: 1, minP: 0.02 },
      { temperature: 1 },
      { repetitionPenalty: 1.3 },
    ]
    const prompts = settings.map((_, index) => randomTokens(60 + index, 3 + 5 * index))
    const run = async (first: number, changes: Partial<SamplerSpec>) => {
      const texts: Token[][] = prompts.map(() => [])
      for (let step = 0; step < 8; step++) {
        const work = prompts.map((prompt, index): SequenceWork => {
          const sequence = first + index
          const last = texts[index]!.at(-1)
          if (!last) return generateWork(sequence, prompt, { ...settings[index], seed: index, ...changes })
          const position = prompt.length + step - 1
          return { sequence, tokens: Int32Array.of(last.token), position, output: 'token' }
        })
        const outputs = await steps.run(work)
        outputs.forEach((output, index) => texts[index]!.push(output as Token))
      }
      return texts
    }
    logitReads = 0
    downloads = []
    const fromCandidates = await run(100, {})
    // Those of the penalty, and a few of the hot ones.
    expect(logitReads).toBeGreaterThanOrEqual(8)
    expect(logitReads).toBeLessThan(8 + 10)
    expect(downloadedRows()).toBe(logitReads - 8)
    // Work with biases gets the whole logits, even if they change nothing.
    const fromLogits = await run(200, { logitBias: [{ token: 0, bias: 0 }] })
    expect(logitReads).toBe(8 + downloadedRows() + 7 * 8)
    expect(fromCandidates.map(tokenIds)).toEqual(fromLogits.map(tokenIds))
    for (const [index, text] of fromCandidates.entries()) {
      for (const [step, { logprob, top }] of text.entries()) {
        const expected = fromLogits[index]![step]!
        expect(top.map(({ token }) => token)).toEqual(expected.top.map(({ token }) => token))
        expect(logprob).toBeCloseTo(expected.logprob, 4)
      }
    }
  })

  test('a step with drafts downloads candidates of each place, and logits that they do not decide at once', async () => {
    const steps = await served()
    const prompts = Array.from({ length: 6 }, (_, index) => randomTokens(80 + index, 9 + index))
    // At this temperature top-p keeps more tokens than there are candidates.
    const sampler = (index: number) => ({ temperature: index < 3 ? 0 : 40, topP: 0.99, seed: index })
    const expected: Token[][] = []
    for (const [index, prompt] of prompts.entries())
      expected.push(await steps.generate(400 + index, prompt, 6, sampler(index)))
    await steps.run(prompts.map((prompt, index) => generateWork(500 + index, prompt, sampler(index))))
    ;[logitReads, downloads, resultBytes] = [0, [], 0]
    const found = (await steps.run(
      prompts.map((prompt, index): SequenceWork => {
        const tokens = Int32Array.from(tokenIds(expected[index]!).slice(0, 5))
        const position = prompt.length
        return { sequence: 500 + index, tokens, position, output: 'token', drafts: 4 }
      }),
    )) as Token[]
    expect(found.map(({ more }) => more?.length)).toEqual(prompts.map(() => 4))
    for (const [index, { kind: _, more = [], ...first }] of found.entries()) {
      const same = expected[index]!.slice(1)
      expect([first, ...more]).toEqual(same.map(({ kind: __, ...token }) => token))
    }
    // A vocabulary of 300 has 256 candidates and parts of two tokens.
    expect(resultBytes).toBe(4 * 6 * 5 * (4 + 2 * 256 + 2))
    // The first undecided place of each work at once; the later ones one by one.
    expect(downloads[0]).toBe(3)
    expect(downloads.slice(1)).toEqual(downloads.slice(1).map(() => 1))
    expect(logitReads).toBe(downloadedRows())
    expect(logitReads).toBeLessThanOrEqual(3 * 5)
  })

  test('grammars are sampled from candidates if no token is drawn by chance', async () => {
    const steps = await served()
    const prompt = randomTokens(90, 8)
    const odd = maskOf(
      300,
      [...Array(300).keys()].filter((token) => token % 2 === 1),
    )
    const run = async (sequence: number, sampler: Partial<SamplerSpec>) => {
      ;[logitReads, downloads] = [0, []]
      const work = generateWork(sequence, prompt, sampler)
      const output = (await steps.one({ ...work, allowed: Promise.resolve(odd) })) as Token
      return { token: output.token, logitReads, downloads }
    }
    const greedy = await run(600, {})
    expect(greedy).toMatchObject({ logitReads: 0, downloads: [] })
    const whole = await run(601, { logitBias: [{ token: 0, bias: 0 }] })
    expect(whole).toEqual({ token: greedy.token, logitReads: 1, downloads: [] })
    expect(greedy.token % 2).toBe(1)
    // By chance from all tokens: the logits come with the step.
    expect(await run(602, { temperature: 1 })).toMatchObject({ logitReads: 1, downloads: [] })
  })

  test.skipIf(!native)('int8 and int4 score as the engine of the processor does', async () => {
    const tiny = await open()
    const maskPath = join(temporaryDir(), 'mask.safetensors')
    await writeFile(maskPath, randomHalfMask(tiny.model, 1).bytes)
    /** Scores of the dense and of the masked set, which share an engine. */
    const scores = async (backend: Backend) => {
      const source = { model: tiny.model, priority: 'serving' } as const
      const sets = await Promise.all([
        backend.load({ ...source, version: 0, maskPath: null }),
        backend.load({ ...source, version: 1, maskPath }),
      ])
      const nll: Float32Array[] = []
      for (const weights of sets) nll.push(await new Steps(backend, weights).nll(1, TOKENS, TARGETS))
      await Promise.all(sets.map((weights) => backend.release(weights)))
      return nll
    }
    const difference = (a: Float32Array, b: Float32Array) =>
      Math.max(...a.map((value, index) => Math.abs(value - b[index]!)))
    const bf16 = await (await served()).nll(300, TOKENS, TARGETS)
    // In nats. The processor rounds inputs too, those of int8 to 16 bits and those of int4 to 8 bits: 0.03 and 0.26 were measured.
    // bf16 differs from int8 by 0.18, from int4 by 1.6.
    const LIMITS = { int8: 0.05, int4: 0.5 }
    for (const precision of ['int8', 'int4'] as const) {
      const options = { precision, headPrecision: precision, ownTokens: 256 }
      const onGpu = await scores(createGpuBackend({ ...options, addon, device: GPU_DEVICE, kvTokens: 256 }))
      // A GPU stores pruned int4 packed, which has other weights than the dense form.
      const processor = { addon: native!, threads: 1, form: 'packed' } as const
      const onProcessor = await scores(createSparseBackend({ ...options, ...processor }))
      expect(difference(onGpu[0]!, onProcessor[0]!)).toBeLessThan(LIMITS[precision])
      expect(difference(onGpu[1]!, onProcessor[1]!)).toBeLessThan(LIMITS[precision])
      expect(difference(onGpu[0]!, bf16)).toBeGreaterThan(0.1)
    }
  })

  test('a mask is evaluated in the form of int4 that serves it', async () => {
    const tiny = await open()
    const backend = chooseBackend({
      backend: 'gpu',
      kernel: null,
      gpu: GPU_DEVICE ?? null,
      precision: 'int4',
      headPrecision: 'int8',
      threads: 1,
      kvTokens: 1024,
      workDir: tiny.dir,
      log: memoryLog(),
    })
    const source = { model: tiny.model, version: 1, maskPath: await halfMaskFile(tiny.model, 1) }
    const active = await backend.load({ ...source, priority: 'serving' })
    const background = await backend.load({ ...source, priority: 'background' })
    const pages = Array.from({ length: Math.ceil(TOKENS.length / 16) }, (_, page) => page)
    const score = async (weights: WeightSet, own: { pages?: number[] }) => {
      const work = { sequence: 1, tokens: TOKENS, position: 0, output: 'nll', targets: TARGETS } as const
      return (await backend.step({ weights, work: [{ ...work, ...own }], drop: [] })).outputs[0]
    }
    expect(await score(background, {})).toEqual(await score(active, { pages }))
    await Promise.all([background, active].map((weights) => backend.release(weights)))
  })

  test('a lost device ends its sets, and the next load opens it again with the same results', async () => {
    const tiny = await open()
    const backend = createGpuBackend({ addon, device: GPU_DEVICE, kvTokens: 256, ownTokens: 256 })
    const weights = await load(backend, tiny)
    const prompt = randomTokens(1, 12)
    const before = await new Steps(backend, weights).generate(1, prompt, 4)
    backend.provokeDeviceLoss()
    const failed = new Steps(backend, weights).generate(2, prompt, 4)
    await expect(failed).rejects.toMatchObject({ code: 'node_failed' })
    expect(await weights.ended).toMatchObject({ code: 'node_failed' })
    await backend.release(weights)
    const reloaded = await load(backend, tiny)
    onTestFinished(() => backend.release(reloaded))
    expect(await new Steps(backend, reloaded).generate(1, prompt, 4)).toEqual(before)
  })

  test('a node whose device is lost loads its masks again by itself and serves on', async () => {
    const { model } = await open()
    const maskPath = join(temporaryDir(), 'mask.safetensors')
    await writeFile(maskPath, randomHalfMask(model, 1).bytes)
    const backend = createGpuBackend({ addon, device: GPU_DEVICE, kvTokens: 1024 })
    const engine = createEngine({
      backend,
      config: model.config,
      codec: model.codec,
      policy: { kvTokens: 512 },
    })
    const log = memoryLog()
    const masks = { ensure: () => Promise.resolve(maskPath) }
    const swap = createMaskSwap({ model, backend, engine, masks, log, onChange: () => undefined })
    onTestFinished(() => swap.close())
    onTestFinished(() => engine.close())
    await swap.start({ active: { version: 1, sha256: '1'.repeat(64) }, previous: null })
    await swap.settled()
    const tokens = [...randomTokens(2, 16)]
    const score = (version: number) =>
      engine.score({ weights: swap.weights(version)!, tokens, lane: 'drift' })
    const before = [await score(0), await score(1)]
    backend.provokeDeviceLoss()
    await expect(score(1)).rejects.toMatchObject({ code: 'node_failed' })
    const states = () => swap.weightSets().map(({ version, state }) => [version, state])
    await vi.waitFor(
      () =>
        expect(states()).toEqual([
          [0, 'ready'],
          [1, 'ready'],
        ]),
      WAIT,
    )
    expect([await score(0), await score(1)]).toEqual(before)
    expect(swap.activeVersion()).toBe(1)
  })

  test('a device that does not work again after its loss is reported once, when three loads have failed', async () => {
    const tiny = await open()
    const gone: string[] = []
    let failure: GpuErrorCode | undefined = 'DeviceUnavailable'
    const openEngine: GpuAddon['openEngine'] = async (options) => {
      if (failure) throw Object.assign(new Error('it does not open'), { code: failure })
      return addon.openEngine(options)
    }
    const backend = createGpuBackend({
      addon: { ...addon, openEngine },
      device: GPU_DEVICE,
      kvTokens: 256,
      onGone: ({ message }) => void gone.push(message),
    })
    const fail = () => expect(load(backend, tiny)).rejects.toMatchObject({ code: 'node_failed' })
    // Before it was ever open, another process would fail too.
    for (let attempt = 0; attempt < 4; attempt++) await fail()
    expect(gone).toEqual([])
    for (const isBack of [true, false]) {
      failure = undefined
      const weights = await load(backend, tiny)
      backend.provokeDeviceLoss()
      await expect(new Steps(backend, weights).generate(1, randomTokens(1, 4), 1)).rejects.toMatchObject({
        code: 'node_failed',
      })
      for (const code of ['DeviceLost', 'InvalidPageCount'] as const) {
        failure = code
        await fail()
      }
      if (isBack) continue
      expect(gone).toEqual([])
      await fail()
      await fail()
      expect(gone).toEqual(['It does not open. COPAL_KV_TOKENS says how many.'])
    }
  })

  test('a device that opens while the node stops is closed again', async () => {
    const { model } = await open()
    const [opening, stopping] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    let closed = 0
    const openEngine: GpuAddon['openEngine'] = async (options) => {
      opening.resolve()
      await stopping.promise
      const engine = await addon.openEngine(options)
      const close = engine.close.bind(engine)
      engine.close = () => {
        closed += 1
        return close()
      }
      return engine
    }
    const backend = createGpuBackend({ addon: { ...addon, openEngine }, device: GPU_DEVICE, kvTokens: 256 })
    const engine = createEngine({ backend, config: model.config, codec: model.codec, policy: {} })
    onTestFinished(() => engine.close())
    const masks = { ensure: () => Promise.reject(new Error('dense has no mask')) }
    const log = memoryLog()
    const swap = createMaskSwap({ model, backend, engine, masks, log, onChange: () => undefined })
    const starting = swap.start({ active: null, previous: null }).catch(() => 'stopped')
    await opening.promise
    const stopped = swap.close()
    stopping.resolve()
    await stopped
    expect(await starting).toBe('stopped')
    expect(closed).toBe(1)
  })

  test('pages that do not fit the device are an error that names the setting', async () => {
    const tiny = await open()
    const backend = createGpuBackend({ addon, device: GPU_DEVICE, kvTokens: 1e9 })
    const failure = await load(backend, tiny).then(
      () => undefined,
      (error: AppError) => error,
    )
    expect(failure).toMatchObject({
      code: 'node_failed',
      message: expect.stringContaining('COPAL_KV_TOKENS'),
    })
  })

  test('a device that is not there is an error, and the device in use is described', async () => {
    const tiny = await open()
    const absent = createGpuBackend({ addon, device: 'no such card' })
    await expect(load(absent, tiny)).rejects.toMatchObject({ code: 'node_failed' })
    const backend = createGpuBackend({ addon, device: GPU_DEVICE, kvTokens: 256 })
    expect(backend.device?.()).toBeUndefined()
    await backend.release(await load(backend, tiny))
    expect(backend.device?.()).toMatch(/(vulkan|metal|dx12)(, software)?, [\d.e+]+ tokens\/s for one stream$/)
    expect(backend.usage()).toEqual({ sequences: 0, pages: 0, ownPages: 0 })
  })
}

/** Tests which tokens the GPU backend samples from candidates, and what it downloads for them. */
import { afterAll, expect, test } from 'vitest'
import type { GpuAddon } from '../../../../../gpu-node/gpu/addon.d.ts'
import {
  createGpuBackend,
  type GpuBackend,
} from '../../../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import type { SamplerSpec, SequenceWork } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import {
  generateWork,
  randomTokens,
  Steps,
  tokenIds,
  type Token,
} from '../../../../support/engine/backend-steps.ts'
import { gpu, GPU_DEVICE, skipWithoutGpu } from '../../../../support/engine/gpu.ts'
import { maskOf } from '../../../../support/engine/token-masks.ts'
import { openTinyModel, type TinyModel } from '../../../../support/models/tiny-model.ts'

if ('addon' in gpu) testSampling(gpu.addon)
else skipWithoutGpu('sampling on the GPU')

function testSampling(addon: GpuAddon): void {
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
      { temperature: 1, frequencyPenalty: 0.8, presencePenalty: 0.4, topLogprobs: 2 },
      { temperature: 0.8, topP: 0.9, logitBias: [{ token: 5, bias: 100 }] },
      {
        temperature: 1,
        repetitionPenalty: 1.2,
        logitBias: [
          { token: 7, bias: -100 },
          { token: 8, bias: 2 },
        ],
      },
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
    // A few of the hot ones.
    expect(logitReads).toBeLessThan(10)
    expect(downloadedRows()).toBe(logitReads)
    // There are fewer candidates than these alternatives.
    const fromLogits = await run(200, { topLogprobs: 257 })
    expect(logitReads).toBe(downloadedRows() + settings.length * 8)
    expect(fromCandidates.map(tokenIds)).toEqual(fromLogits.map(tokenIds))
    for (const [index, text] of fromCandidates.entries()) {
      for (const [step, { logprob, top }] of text.entries()) {
        const expected = fromLogits[index]![step]!
        const same = expected.top.slice(0, top.length)
        expect(top.map(({ token }) => token)).toEqual(same.map(({ token }) => token))
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

  test('under a grammar tokens come from candidates, unless others could change them', async () => {
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
    const whole = await run(601, { topLogprobs: 257 })
    expect(whole).toEqual({ token: greedy.token, logitReads: 1, downloads: [] })
    expect(greedy.token % 2).toBe(1)
    // By chance from all tokens, of which the candidates have nearly all the weight, or too little of it.
    for (const [temperature, reads] of [
      [1, 0],
      [40, 1],
    ] as const) {
      const found = await run(602 + reads, { temperature })
      expect(found).toMatchObject({ logitReads: reads, downloads: Array(reads).fill(1) })
      const expected = await run(604, { temperature, topLogprobs: 257 })
      expect(found.token).toBe(expected.token)
    }
  })
}

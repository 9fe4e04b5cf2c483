import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Backend, WeightSet } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createOnnxBackend } from '../../../../gpu-node/src/serving/backends/onnx/onnx-backend.ts'
import type { ProcessBackend } from '../../../../gpu-node/src/serving/backends/weight-set-process/process-backend.ts'
import { calibrateAndSelect } from '../../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import {
  evaluateTexts,
  type EvaluationOptions,
  type EvaluationTarget,
} from '../../../../gpu-node/src/pruning/runs/evaluate-texts.ts'
import { cutWindows, type TextSource } from '../../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import { isAlive } from '../../../../gpu-node/src/platform/process-identity.ts'
import { writeDataset, writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'
import { referenceBlock } from '../../../support/models/reference-block.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const WINDOW = 48
const TEXT = 'The whale and the ship of the nation sail over the sea. '.repeat(20)

let tiny: TinyModel
let onnx: ProcessBackend
let backend: Backend
let released: WeightSet[]

beforeAll(async () => {
  tiny = await openTinyModel({ layers: 2 })
  released = []
  onnx = createOnnxBackend({ workDir: join(tiny.dir, 'work'), threads: 1 })
  backend = {
    ...onnx,
    release: async (weights) => {
      await onnx.release(weights)
      released.push(weights)
    },
  }
})

afterAll(() => tiny.remove())

const reference = () => ({
  spec: join(tiny.dir, 'model'),
  cacheDir: join(tiny.dir, 'cache'),
  id: 'tiny',
  baseSha256: tiny.model.master.baseSha256,
})

function target(mask: string | null = null): EvaluationTarget {
  return { model: tiny.model, reference: reference(), version: mask === null ? 0 : 1, maskPath: mask }
}

async function run(
  sources: TextSource[],
  options: Partial<EvaluationOptions> = {},
  mask: string | null = null,
) {
  return (await evaluate(sources, options, mask)).sources
}

function evaluate(sources: TextSource[], options: Partial<EvaluationOptions>, mask: string | null) {
  return evaluateTexts(backend, target(mask), sources, { windowTokens: WINDOW, ...options })
}

/** Computes the sum of the negative log-likelihoods of tokens 2…T of one window, in f64. */
function referenceNll(window: Int32Array): number {
  const { config } = tiny.model
  const { hiddenSize, vocabSize } = config
  const embedding = tiny.tensors.get('model.embed_tokens.weight')!.values
  const gamma = tiny.tensors.get('model.norm.weight')!.values
  let hidden = [...window].map((token) => [
    ...embedding.subarray(token * hiddenSize, (token + 1) * hiddenSize),
  ])
  for (let layer = 0; layer < config.layers; layer++) {
    hidden = referenceBlock(config, tiny.tensors, layer, hidden).hidden
  }
  let sum = 0
  for (let t = 0; t + 1 < window.length; t++) {
    const scale =
      1 / Math.sqrt(hidden[t]!.reduce((total, v) => total + v * v, 0) / hiddenSize + config.rmsNormEps)
    const logits = Array.from({ length: vocabSize }, (_, token) =>
      hidden[t]!.reduce(
        (total, v, i) => total + v * scale * gamma[i]! * embedding[token * hiddenSize + i]!,
        0,
      ),
    )
    const most = Math.max(...logits)
    sum +=
      most + Math.log(logits.reduce((total, v) => total + Math.exp(v - most), 0)) - logits[window[t + 1]!]!
  }
  return sum
}

test('perplexity equals that of an f64 forward pass, also over windows longer than one step', async () => {
  for (const windowTokens of [WINDOW, 200]) {
    const [evaluation] = await run([{ texts: [TEXT] }], { windowTokens, maxWindows: 2 })
    const { windows } = await cutWindows({ texts: [TEXT] }, tiny.model.codec, windowTokens, 2)
    const nll = windows.reduce((sum, window) => sum + referenceNll(window), 0)
    expect(evaluation).toMatchObject({ windows: windows.length, tokens: windows.length * (windowTokens - 1) })
    expect(evaluation!.nllMean).toBeCloseTo(nll / evaluation!.tokens, 4)
    expect(evaluation!.windowNll).toHaveLength(windows.length)
    for (const [index, window] of windows.entries()) {
      expect(evaluation!.windowNll[index]).toBeCloseTo(referenceNll(window) / (windowTokens - 1), 4)
    }
    expect(evaluation!.windowTokens).toEqual(windows.map((window) => window.length - 1))
    expect(evaluation!.perplexity).toBeCloseTo(Math.exp(evaluation!.nllMean), 10)
  }
})

test('several sources are evaluated separately in one weight set, with common progress, and the set is released', async () => {
  const path = await writeDataset(tiny.dir, 'holdout', ['the sea', TEXT])
  const progress: string[] = []
  released.length = 0
  const [text, dataset] = await run([{ texts: [TEXT] }, path], {
    maxWindows: 3,
    onProgress: (done, total) => progress.push(`${done}/${total}`),
  })
  expect(text!.windows).toBe(3)
  expect(dataset!.windows).toBe(3)
  expect(dataset!.tokens).toBeLessThan(text!.tokens)
  expect(progress).toEqual(['0/6', '1/6', '2/6', '3/6', '4/6', '5/6', '6/6'])
  expect(released).toHaveLength(1)
  expect(released[0]!.source.priority).toBe('background')
  await expect(released[0]!.ended).resolves.toBeUndefined()
})

test('a mask changes the perplexity, but a mask that prunes nothing does not', async () => {
  const dataset = await writeWordsDataset(tiny.dir, 'legal', 1)
  const prune = async (pattern: string) => {
    const task = {
      datasets: [dataset],
      accumulated: [],
      samples: 4,
      length: 32,
      seed: 1,
      selection: { method: 'copal', pattern, scope: 'row' },
      parentMaskPath: null,
      created: '2026-11-25T00:00:00.000Z',
      workDir: join(tiny.dir, 'masks'),
      statisticsDir: join(tiny.dir, 'statistics'),
    } as const
    const { maskPath } = await calibrateAndSelect(tiny.model, task, 1, () => undefined)
    return maskPath
  }
  const sources = [{ texts: [TEXT] }]
  const [dense] = await run(sources)
  const [whole] = await run(sources, {}, await prune('0.0001'))
  const [pruned] = await run(sources, {}, await prune('0.5'))
  expect(whole!.nllMean).toBeCloseTo(dense!.nllMean, 6)
  expect(Math.abs(pruned!.nllMean - dense!.nllMean)).toBeGreaterThan(1e-3)
})

test('cancelling stops between steps and releases the weights', async () => {
  released.length = 0
  const abort = new AbortController()
  const running = run([{ texts: [TEXT.repeat(10)] }], {
    signal: abort.signal,
    onProgress: (done) => done === 2 && abort.abort(new Error('not wanted any more')),
  })
  await expect(running).rejects.toThrow('not wanted any more')
  expect(released).toHaveLength(1)
})

test('a source without windows, and windows longer than the context, are errors before weights are loaded', async () => {
  await expect(run([{ texts: ['', 'a'] }])).rejects.toMatchObject({ code: 'insufficient_samples' })
  await expect(run([{ texts: [TEXT] }], { windowTokens: 257 })).rejects.toMatchObject({
    code: 'context_length_exceeded',
  })
  expect(await readdir(join(tiny.dir, 'work', 'tmp')).catch(() => [])).toEqual([])
})

test('windows do not overlap, tails are dropped, short texts are one window', async () => {
  const encodeDocument = (text: string) => Array.from(text, (char) => char.charCodeAt(0))
  const codec = { ...tiny.model.codec, encodeDocument }
  const cut = async (texts: string[], most = 100) =>
    (await cutWindows({ texts }, codec, 4, most)).windows.map((window) => String.fromCharCode(...window))
  expect(await cut(['abcdefghijk', 'xy', 'z', 'mnop'])).toEqual(['abcd', 'efgh', 'xy', 'mnop'])
  expect(await cut(['abcdefghijk', 'xy'], 1)).toEqual(['abcd'])
})

test('generation is checked with the same weight set, and the same way each time', async () => {
  released.length = 0
  const first = await evaluate([{ texts: [TEXT] }], { maxWindows: 1, checkGeneration: true }, null)
  expect(released).toHaveLength(1)
  const { generation } = first
  expect(generation).toMatchObject({ finite: true })
  expect(generation!.tokens).toBeGreaterThan(0)
  expect(generation!.entropy).toBeGreaterThan(0)
  expect(generation!.entropy).toBeLessThanOrEqual(Math.log(tiny.model.config.vocabSize) + 1e-6)
  const again = await evaluate([{ texts: [TEXT] }], { maxWindows: 1, checkGeneration: true }, null)
  expect(again).toEqual(first)
})

test.skipIf(process.platform === 'win32')(
  'a cancelled evaluation ends at once, also in a step or a load that does not end, and leaves no process',
  async () => {
    const cancel = new AbortController()
    let weights: WeightSet | undefined
    let pid: number | undefined
    const stopped: Backend = {
      ...backend,
      load: async (source) => (weights = await onnx.load(source)),
      async step(plan) {
        pid = onnx.pidOf(plan.weights)
        // A stopped process stands for one whose step takes minutes.
        process.kill(pid!, 'SIGSTOP')
        setImmediate(() => cancel.abort(new Error('cancelled in a step')))
        return onnx.step(plan)
      },
    }
    const options = { windowTokens: WINDOW, signal: cancel.signal }
    await expect(evaluateTexts(stopped, target(), [{ texts: [TEXT] }], options)).rejects.toThrow(
      'cancelled in a step',
    )
    expect(released).toContain(weights)
    expect(isAlive(pid!)).toBe(false)

    const loading = new AbortController()
    const load = onnx.load({
      model: tiny.model,
      version: 0,
      maskPath: null,
      priority: 'background',
      signal: loading.signal,
    })
    loading.abort()
    await expect(load).rejects.toThrow(/abort|SIGKILL/)
    expect(await readdir(join(tiny.dir, 'work', 'tmp'))).toEqual([])
  },
)

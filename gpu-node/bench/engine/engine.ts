import { loadavg } from 'node:os'
import { join } from 'node:path'
import { createOnnxBackend } from '@copal/gpu-node/serving/backends/onnx/onnx-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { Precision } from '@copal/gpu-node/native/addon.d.ts'
import { createFormMeter } from '@copal/gpu-node/serving/backends/sparse/form-figures.ts'
import {
  createSparseLoader,
  FORMS,
  kernelsNamed,
  servedContender,
  type Contender,
  type Form,
} from './engine-contender.ts'
import type { LlamaCpp, LlamaQuantisation } from './llama-cpp.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

/** Options of the engine benchmark. */
interface EngineBenchOptions {
  model: DenseModel
  maskPath: string
  /** Scratch space of the ONNX backend. */
  workDir: string
  threads: number
  forms: readonly Form[]
  /** Names of kernels to compare; none: that of `COPAL_KERNEL`, or the machine's best. */
  kernels: readonly string[]
  batches: readonly number[]
  /** Lengths of prompts, for one sequence. */
  prompts: readonly number[]
  /** Tokens that one measurement decodes of each sequence. */
  decodeSteps: number
  repetitions: number
  /** No repetition begins after this time. One always runs. */
  timeLimitMs: number
  /** llama.cpp, and a GGUF file of the model to quantise. */
  llama: { cpp: LlamaCpp; ggufPath: string } | null
  print: (line: string) => void
}

interface Case {
  name: string
  /** Tokens per pass over the weights; null for a prefill, which memory bandwidth does not bound. */
  batch: number | null
  run: (contender: Contender) => Promise<number>
}

/** One measurement: tokens per second over the batch, and bytes per second of the memory at that time. */
interface Figure {
  rate: number
  bandwidth: number
}

/** Length of a sequence when decoding begins. */
const CONTEXT = 128
/** The quantisations of llama.cpp that are nearest to our precisions. */
const LLAMA: Record<Precision, LlamaQuantisation> = { bf16: 'BF16', int8: 'Q8_0', int4: 'Q4_0' }

/**
 * Compares the sparse engine, dense and masked in every precision, with ONNX Runtime's dense f32 and optionally with
 * llama.cpp in the same precisions. Every repetition measures every case on every set, each between two measurements of
 * the memory bandwidth.
 *
 * "% of the bandwidth" is the time to read the weights at that bandwidth, relative to the time of a step. "× onnx" and
 * "× dense", the same precision without a mask, are taken within a repetition.
 *
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchEngine(options: EngineBenchOptions): Promise<void> {
  const { print, repetitions, timeLimitMs, threads } = options
  const probe = new (loadNative().Multiplier)({ threads, maxTokens: 1, maxCols: 64 })
  const sets = await loadSets(options)
  const cases = casesOf(options)
  const figures = new Map<string, Figure[]>()
  const startedMs = performance.now()
  let done = 0
  print(line('load average before', loads()))
  // Repetition -1 runs only the first case on every set, to warm up.
  for (let repetition = -1; repetition < repetitions; repetition++) {
    if (done > 0 && performance.now() - startedMs > timeLimitMs) break
    let before = probe.readBandwidth()
    for (const { name, run } of repetition < 0 ? cases.slice(0, 1) : cases) {
      for (const set of sets) {
        const rate = await run(set)
        const after = probe.readBandwidth()
        const key = `${name}, ${set.name}`
        if (repetition >= 0)
          figures.set(key, [...(figures.get(key) ?? []), { rate, bandwidth: (before + after) / 2 }])
        before = after
      }
    }
    if (repetition >= 0) done += 1
  }
  print(line('load average after', loads()))
  const bandwidths = [...figures.values()].flat().map(({ bandwidth }) => bandwidth / 1e9)
  print(line('memory, read by all threads', formatSpread(spread(bandwidths), 'GB/s')))
  for (const one of cases) {
    const reference = figures.get(`${one.name}, ${sets[0]?.name}`) ?? []
    for (const set of sets) {
      const found = figures.get(`${one.name}, ${set.name}`) ?? []
      const dense = set.dense === undefined ? undefined : figures.get(`${one.name}, ${set.dense}`)
      print(line(`${one.name}, ${set.name}`, describe(one, set, found, { onnx: reference, dense })))
    }
  }
  for (const { close } of sets) await close()
}

async function loadSets(options: EngineBenchOptions): Promise<Contender[]> {
  const { model, maskPath, workDir, threads, forms, print } = options
  const dense = { model, version: 0, maskPath: null, priority: 'serving' } as const
  const masked = { ...dense, version: 1, maskPath }
  const onnx = createOnnxBackend({ workDir, threads })
  const all = [...model.master.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  // An embedding that is not also the head is not read in full: a token reads only one row.
  const unread = model.config.tiedEmbedding ? 0 : 4 * model.config.vocabSize * model.config.hiddenSize
  const sets = [servedContender('onnx f32 dense', onnx, await onnx.load(dense), (all - unread) / 1e6)]
  for (const form of forms) {
    for (const kernel of kernelsNamed(loadNative(), options.kernels)) {
      const packed = createSparseLoader(form, threads, kernel)
      // A node measures the same before it loads a mask of a new kind.
      const formMeter = createFormMeter({ addon: loadNative(), cacheDir: workDir })
      const chosen = createSparseLoader(form, threads, kernel, { form: 'auto', formMeter })
      const denseName = `${packed.backend.name} dense`
      for (const [name, source, { load }] of [
        ['dense', dense, packed],
        ['masked', masked, packed],
        ['masked, as chosen', masked, chosen],
      ] as const) {
        const startedMs = performance.now()
        const contender = await load(`${packed.backend.name} ${name}`, source)
        const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
        sets.push(name === 'dense' ? contender : { ...contender, dense: denseName })
        if (contender.form) print(line(contender.name, `${contender.form.name}: ${contender.form.why}`))
        print(line(contender.name, `${contender.megabytes} MB per token at batch 1, loaded in ${seconds} s`))
      }
    }
    // Once for each precision, whatever the head's.
    const [precision] = FORMS[form]
    const isFirst = forms.findIndex((other) => FORMS[other][0] === precision) === forms.indexOf(form)
    if (options.llama && isFirst) sets.push(await loadLlama(options.llama, precision, options))
  }
  return sets
}

async function loadLlama(
  { cpp, ggufPath }: NonNullable<EngineBenchOptions['llama']>,
  precision: Precision,
  { workDir, threads, batches, prompts, decodeSteps, print }: EngineBenchOptions,
): Promise<Contender> {
  const kind = LLAMA[precision]
  const path = join(workDir, `${kind}.gguf`)
  await cpp.quantise(ggufPath, path, kind)
  const tokens = Math.max(CONTEXT + decodeSteps, ...prompts)
  const contender = await cpp.load(`llama.cpp ${kind}`, path, threads, Math.max(...batches), tokens)
  print(line(contender.name, `${contender.megabytes.toFixed(0)} MB per token at batch 1; ${contender.about}`))
  return contender
}

function casesOf({ batches, prompts, decodeSteps }: EngineBenchOptions): Case[] {
  return [
    ...batches.map((batch) => ({
      name: `decode, batch ${batch}`,
      batch,
      run: (contender: Contender) => contender.decode(batch, CONTEXT, decodeSteps),
    })),
    ...prompts.map((length) => ({
      name: `prefill, prompt ${length}`,
      batch: null,
      run: (contender: Contender) => contender.prefill(length),
    })),
  ]
}

function describe(
  { batch }: Case,
  set: Contender,
  found: Figure[],
  references: { onnx: Figure[]; dense: Figure[] | undefined },
): string {
  const parts = [formatSpread(spread(found.map(({ rate }) => rate)), 'tokens/s')]
  if (batch !== null) {
    const megabytes = set.megabytes / batch
    const shares = found.map(({ rate, bandwidth }) => (rate * megabytes * 1e8) / bandwidth)
    parts.push(`${megabytes.toFixed(1)} MB per token`, formatSpread(spread(shares), '% of the bandwidth', 0))
  }
  for (const [name, reference] of Object.entries(references)) {
    if (reference === undefined) continue
    const ratios = found.map(({ rate }, index) => rate / (reference[index]?.rate ?? Number.NaN))
    parts.push(formatSpread(spread(ratios), `× ${name}`, 2))
  }
  return parts.join(', ')
}

function loads(): string {
  return loadavg()
    .map((load) => load.toFixed(1))
    .join(' ')
}

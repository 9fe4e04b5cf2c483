import { join } from 'node:path'
import { evaluateWindows } from '@copal/gpu-node/pruning/evaluation/evaluate-windows.ts'
import { drawSvg, standaloneSvg } from '@copal/lab/report/draw-svg.ts'
import { linePlot } from '@copal/lab/report/plots/line-plot.ts'
import { styleSeries } from '@copal/lab/report/plots/plot-theme.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { createSparseLoader, type Contender, type Form } from '../engine/engine-contender.ts'
import type { LlamaCpp, LlamaQuantisation } from '../engine/llama-cpp.ts'
import { spread, type Spread } from '@copal/gpu-node/platform/spread.ts'

/** A mask file and the label of its points. */
export interface FrontMask {
  label: string
  path: string
}

/** Options of {@link measureFront}. */
export interface FrontOptions {
  model: DenseModel
  masks: readonly FrontMask[]
  forms: readonly Form[]
  /** Text that was held out of the masks' calibration. */
  windows: readonly Int32Array[]
  llama: { cpp: LlamaCpp; ggufPath: string; kinds: readonly LlamaQuantisation[] } | null
  workDir: string
  threads: number
  context: number
  decodeSteps: number
  repetitions: number
  print: (line: string) => void
}

/** One form of the model with its cost and its perplexity. */
export interface FrontPoint {
  name: string
  /** Name of the line that joins the points of a series. */
  series: string
  /** Bytes of weights that decoding one token reads at batch size 1, in millions. */
  megabytes: number
  perplexity: number
  /** Speed of decoding one sequence. */
  tokensPerSecond: Spread
}

interface Measured {
  series: string
  contender: Contender
  perplexity: number
  rates: number[]
}

/** The quantisations of llama.cpp of comparable size; the number is bits per weight. */
export const LLAMA_KINDS: readonly LlamaQuantisation[] = [
  'BF16',
  'Q8_0',
  'Q6_K',
  'Q5_K_M',
  'Q4_K_M',
  'Q4_0',
  'Q3_K_M',
  'Q2_K',
]

/**
 * Measures bytes per token, tokens per second and perplexity of one model in every form: dense and under each mask in
 * our precisions, and in llama.cpp's quantisations. Speeds come from one interleaved run.
 */
export async function measureFront(options: FrontOptions): Promise<FrontPoint[]> {
  const { context, decodeSteps, repetitions, print } = options
  const all = [...(await loadOurs(options)), ...(await loadLlama(options))]
  for (let repetition = -1; repetition < repetitions; repetition++) {
    for (const { contender, rates } of all) {
      const rate = await contender.decode(1, context, decodeSteps)
      if (repetition >= 0) rates.push(rate)
    }
    if (repetition >= 0) print(`repetition ${repetition + 1} of ${repetitions}`)
  }
  const points = all.map(({ series, contender, perplexity, rates }) => ({
    name: contender.name,
    series,
    megabytes: contender.megabytes,
    perplexity,
    tokensPerSecond: spread(rates),
  }))
  for (const { contender } of all) await contender.close()
  return points
}

async function loadOurs(options: FrontOptions): Promise<Measured[]> {
  const { model, masks, forms, windows, threads, print } = options
  const found: Measured[] = []
  for (const form of forms) {
    const { backend, load } = createSparseLoader(form, threads)
    for (const [index, mask] of [null, ...masks].entries()) {
      const source = { model, version: index, maskPath: mask?.path ?? null }
      const [evaluation] = await collect(evaluateWindows(backend, source, [{ windows: [...windows] }]))
      const name = `${form} ${mask?.label ?? 'dense'}`
      const perplexity = evaluation?.perplexity ?? Number.NaN
      print(`${name}: ${perplexity.toFixed(2)}`)
      const contender = await load(name, { ...source, priority: 'serving' })
      found.push({ series: `copal ${form}`, contender, perplexity, rates: [] })
    }
  }
  return found
}

async function loadLlama({
  llama,
  windows,
  workDir,
  threads,
  context,
  decodeSteps,
  print,
}: FrontOptions): Promise<Measured[]> {
  if (!llama) return []
  const found: Measured[] = []
  const tokens = Math.max(context + decodeSteps, ...windows.map(({ length }) => length))
  for (const kind of llama.kinds) {
    const path = join(workDir, `${kind}.gguf`)
    await llama.cpp.quantise(llama.ggufPath, path, kind)
    const contender = await llama.cpp.load(`llama.cpp ${kind}`, path, threads, 1, tokens)
    const losses: number[] = []
    for (const window of windows) losses.push(...(await contender.loss(window)))
    const perplexity = Math.exp(losses.reduce((sum, loss) => sum + loss, 0) / losses.length)
    print(`${contender.name}: ${perplexity.toFixed(2)}`)
    found.push({ series: 'llama.cpp', contender, perplexity, rates: [] })
  }
  return found
}

/** Returns the points that no other point beats by being at least as good in both values and better in one. */
export function onFront(
  points: readonly FrontPoint[],
  costOf: (point: FrontPoint) => number,
): ReadonlySet<FrontPoint> {
  const beats = (a: FrontPoint, b: FrontPoint) =>
    costOf(a) <= costOf(b) &&
    a.perplexity <= b.perplexity &&
    (costOf(a) < costOf(b) || a.perplexity < b.perplexity)
  return new Set(points.filter((point) => !points.some((other) => beats(other, point))))
}

const timeOf = ({ tokensPerSecond }: FrontPoint) => 1 / tokensPerSecond.median
const bytesOf = ({ megabytes }: FrontPoint) => megabytes

/** Renders a table in Markdown, fewest bytes first. */
export function frontTable(points: readonly FrontPoint[]): string {
  const [byTime, byBytes] = [onFront(points, timeOf), onFront(points, bytesOf)]
  const row = (point: FrontPoint) => {
    const { median, min, max } = point.tokensPerSecond
    const speed = `${median.toFixed(1)} (${min.toFixed(1)}–${max.toFixed(1)})`
    const fronts = [byTime.has(point) ? 'speed' : '', byBytes.has(point) ? 'bytes' : '']
    return `| ${point.name} | ${point.megabytes.toFixed(0)} | ${speed} | ${point.perplexity.toFixed(2)} | ${fronts.filter(Boolean).join(', ')} |`
  }
  return [
    '| | MB a token | tokens/s | perplexity | on the front of |',
    '| --- | --- | --- | --- | --- |',
    ...points.toSorted((a, b) => a.megabytes - b.megabytes).map(row),
    '',
  ].join('\n')
}

/** Draws perplexity over speed and over bytes, as SVG files by name. */
export async function frontPlots(
  points: readonly FrontPoint[],
  title: string,
): Promise<Record<string, string>> {
  const series = [...new Set(points.map((point) => point.series))]
  const draw = async (xTitle: string, x: (point: FrontPoint) => number) => {
    const plotted = points.map((point) => ({ series: point.series, x: x(point), y: point.perplexity }))
    const spec = linePlot({
      title,
      points: plotted,
      style: styleSeries(series),
      x: { title: xTitle },
      y: { title: 'perplexity', scale: { type: 'log', nice: false } },
      // Masks of several methods and noise in the speeds leave no order in which they would be joined.
      hasLines: false,
    })
    return standaloneSvg(await drawSvg(spec))
  }
  return {
    'front-speed.svg': await draw('tokens a second, one stream', (point) => point.tokensPerSecond.median),
    'front-bytes.svg': await draw('MB of weights a token', bytesOf),
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

import { setTimeout as sleep } from 'node:timers/promises'
import { FORMS, type Form } from './engine-contender.ts'
import { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
import { percentile } from '../measurement/percentile.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread, type Spread } from '@copal/gpu-node/platform/spread.ts'
import type { WeightSet } from '@copal/gpu-node/serving/contract/backend.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'
import { describeSpans, recordSpans, type Span } from './backend-spans.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'

/** The longest time between two tokens during a swap that is aimed for, in medians without one. */
const MAX_SLOWDOWN = 3

/** A time between two tokens of one stream. */
type Gap = Omit<Span, 'what'>

/** The times of one swap: start of the load, flip, and end of the release of the old set. */
interface Swap {
  loadMs: number
  flipMs: number
  flippedMs: number
  releasedMs: number
}

/** The results of a run of swaps; times in milliseconds. */
export interface SwapFigures {
  /** Between two tokens of a stream: without a swap, while a set is packed and tried, and while the old set drains and is released. */
  quiet: Spread
  packing: Spread
  draining: Spread
  /** Loads, from the mask file to a set that was tried. */
  load: Spread
  flip: Spread
  /** The longest time between two tokens of each swap, of a load or what follows it. */
  longestOfSwaps: readonly number[]
  /** The 99th percentile of the times between two tokens during swaps. */
  percentile99: number
  /** What ran in the longest gap during a swap: `25.3 ms of a step of 4 tokens`. */
  longest: string
}

/**
 * Measures how long streams of the sparse engine wait for their next token: without a swap, while a set is packed, and
 * while the old set drains and is released.
 *
 * @param options.pauseMs time between two swaps
 * @throws NativeUnavailableError when the addon is not built
 */
export async function measureSwapGaps(options: {
  model: DenseModel
  maskPath: string
  form: Form
  streams: number
  swaps: number
  pauseMs: number
}): Promise<SwapFigures> {
  const { model, maskPath, form, streams, swaps, pauseMs } = options
  const [precision, headPrecision] = FORMS[form]
  const spans: Span[] = []
  const backend = recordSpans(createSparseBackend({ addon: loadNative(), precision, headPrecision }), spans)
  // With drafts a step may sample several tokens, between which there is no time.
  const policy = { draftTokens: 0 }
  const engine = createEngine({ backend, config: model.config, codec: model.codec, policy })
  const load = (version: number): Promise<WeightSet> =>
    backend.load({ model, version, maskPath, priority: 'serving' })
  let active = await load(1)
  engine.setActive(active)

  const gaps: Gap[] = []
  let running = true
  const stream = async (index: number) => {
    for (let round = 0; running; round++) {
      const prompt = Array.from(
        { length: 16 },
        (_, i) => (i * 7919 + index * 31 + round) % model.config.vocabSize,
      )
      const sampling = { ...GREEDY, temperature: 1, seed: index, topLogprobs: 0 }
      const id = `stream-${index}-${round}`
      let lastMs: number | undefined
      for await (const event of engine.generate({
        id,
        prompt,
        maxTokens: 48,
        sampling,
        stops: [],
        restartable: false,
      }).events) {
        if (event.type !== 'text') continue
        const nowMs = performance.now()
        // A character of several tokens arrives with its last one, so this is not the time between two tokens.
        if (lastMs !== undefined && event.tokens.length === 1) gaps.push({ fromMs: lastMs, toMs: nowMs })
        lastMs = nowMs
        if (!running) break
      }
    }
  }
  const done = Promise.all(Array.from({ length: streams }, (_, index) => stream(index)))

  const made: Swap[] = []
  await sleep(pauseMs)
  for (let swap = 0; swap < swaps; swap++) {
    const loadMs = performance.now()
    const next = await load(active.version + 1)
    const flipMs = performance.now()
    engine.setActive(next)
    const flippedMs = performance.now()
    await engine.drain(active.version, 600_000)
    await backend.release(active)
    made.push({ loadMs, flipMs, flippedMs, releasedMs: performance.now() })
    active = next
    await sleep(pauseMs)
  }
  running = false
  await done
  engine.close()
  await backend.release(active)

  const isWithin = (gap: Gap, fromMs: number, toMs: number) => gap.toMs > fromMs && gap.fromMs < toMs
  const isDuring = (gap: Gap, { loadMs, releasedMs }: Swap) => isWithin(gap, loadMs, releasedMs)
  const within = (fromMs: (swap: Swap) => number, toMs: (swap: Swap) => number) =>
    gaps.filter((gap) => made.some((swap) => isWithin(gap, fromMs(swap), toMs(swap))))
  const packing = within(
    ({ loadMs }) => loadMs,
    ({ flipMs }) => flipMs,
  )
  const draining = within(
    ({ flipMs }) => flipMs,
    ({ releasedMs }) => releasedMs,
  )
  const quiet = gaps.filter((gap) => !made.some((swap) => isDuring(gap, swap)))
  const length = ({ fromMs, toMs }: Gap) => toMs - fromMs
  const lengths = (part: readonly Gap[]) => spread(part.map(length))
  const during = gaps
    .filter((gap) => made.some((swap) => isDuring(gap, swap)))
    .toSorted((a, b) => length(a) - length(b))
  const longest = during.at(-1)
  return {
    quiet: lengths(quiet),
    packing: lengths(packing),
    draining: lengths(draining),
    load: spread(made.map((swap) => swap.flipMs - swap.loadMs)),
    flip: spread(made.map((swap) => swap.flippedMs - swap.flipMs)),
    longestOfSwaps: made.map((swap) =>
      Math.max(0, ...during.filter((gap) => isDuring(gap, swap)).map(length)),
    ),
    percentile99: percentile(during.map(length), 0.99),
    longest: longest ? describeSpans(spans, longest) : 'no token came',
  }
}

/** Describes runs of one precision: each figure is the median of the runs. */
export function describeSwapGaps(runs: readonly SwapFigures[], streams: number): string[] {
  const over = (figure: (run: SwapFigures) => number) => spread(runs.map(figure))
  const longestOf = ({ packing, draining }: SwapFigures) => Math.max(packing.max, draining.max)
  const figures: [string, (run: SwapFigures) => number, string, number][] = [
    [`between tokens of ${streams} streams, no swap`, ({ quiet }) => quiet.median, 'ms', 1],
    [
      'while a set is packed, relative to that',
      ({ quiet, packing }) => packing.median / quiet.median,
      '×',
      2,
    ],
    ['longest while a set is packed', ({ quiet, packing }) => packing.max / quiet.median, '×', 1],
    [
      'longest while the old set drains and is freed',
      ({ quiet, draining }) => draining.max / quiet.median,
      '×',
      1,
    ],
    ['longest during a swap', (run) => longestOf(run) / run.quiet.median, '×', 1],
    ['99th percentile during a swap', (run) => run.percentile99 / run.quiet.median, '×', 1],
    ['longest without a swap', ({ quiet }) => quiet.max / quiet.median, '×', 1],
    ['load: mask file → packed, self-tested', ({ load }) => load.median, 'ms', 0],
    ['flip', ({ flip }) => flip.median, 'ms', 3],
  ]
  // One burst of another program decides the longest of all swaps.
  const slow = runs.flatMap(({ quiet, longestOfSwaps }) =>
    longestOfSwaps.filter((gapMs) => gapMs > MAX_SLOWDOWN * quiet.median),
  )
  const swaps = runs.flatMap(({ longestOfSwaps }) => longestOfSwaps).length
  return [
    ...figures.map(([what, figure, unit, digits]) => line(what, formatSpread(over(figure), unit, digits))),
    line(`swaps with a time above ${MAX_SLOWDOWN} ×`, `${slow.length} of ${swaps}`),
    ...runs.map(({ longest }, index) => line(`in the longest gap of run ${index + 1}`, longest)),
  ]
}

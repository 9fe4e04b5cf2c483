import { setTimeout as sleep } from 'node:timers/promises'
import { FORMS, type Form } from './engine-contender.ts'
import { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { WeightSet } from '@copal/gpu-node/serving/contract/backend.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'

/** A time between two tokens of one stream. */
interface Gap {
  fromMs: number
  toMs: number
}

/** The times of one swap: start of the load, flip, and end of the drain. */
interface Swap {
  loadMs: number
  flipMs: number
  flippedMs: number
  drainedMs: number
}

/**
 * Measures how long streams of the sparse engine wait for their next token: without a swap, while a set is packed, and
 * while the old set drains and both sets take turns.
 *
 * @param options.pauseMs time between two swaps
 * @returns lines for people
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchSwapGaps(options: {
  model: DenseModel
  maskPath: string
  form: Form
  streams: number
  swaps: number
  pauseMs: number
}): Promise<string[]> {
  const { model, maskPath, form, streams, swaps, pauseMs } = options
  const [precision, headPrecision] = FORMS[form]
  const backend = createSparseBackend({ addon: loadNative(), precision, headPrecision })
  const engine = createEngine({ backend, config: model.config, codec: model.codec })
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
    made.push({ loadMs, flipMs, flippedMs, drainedMs: performance.now() })
    await backend.release(active)
    active = next
    await sleep(pauseMs)
  }
  running = false
  await done
  engine.close()
  await backend.release(active)

  const within = (fromMs: (swap: Swap) => number, toMs: (swap: Swap) => number) =>
    gaps.filter((gap) => made.some((swap) => gap.toMs > fromMs(swap) && gap.fromMs < toMs(swap)))
  const packing = within(
    ({ loadMs }) => loadMs,
    ({ flipMs }) => flipMs,
  )
  const draining = within(
    ({ flipMs }) => flipMs,
    ({ drainedMs }) => drainedMs,
  )
  const quiet = gaps.filter((gap) => !packing.includes(gap) && !draining.includes(gap))
  const lengths = (part: readonly Gap[]) => spread(part.map(({ fromMs, toMs }) => toMs - fromMs))
  const [ofQuiet, ofPacking, ofDraining] = [lengths(quiet), lengths(packing), lengths(draining)]
  const longest = Math.max(ofPacking.max, ofDraining.max)
  return [
    line(`between tokens of ${streams} streams, no swap`, formatSpread(ofQuiet, 'ms')),
    line('while a set is packed', formatSpread(ofPacking, 'ms')),
    line('while the old set drains', formatSpread(ofDraining, 'ms')),
    line(
      'longest during a swap, relative to the median without',
      `${(longest / ofQuiet.median).toFixed(1)} ×`,
    ),
    line(
      'load: mask file → packed, self-tested',
      formatSpread(spread(made.map((swap) => swap.flipMs - swap.loadMs)), 'ms', 0),
    ),
    line('flip', formatSpread(spread(made.map((swap) => swap.flippedMs - swap.flipMs)), 'ms', 3)),
  ]
}

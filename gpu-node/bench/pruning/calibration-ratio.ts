import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Backend, SequenceWork, WeightSet } from '@copal/gpu-node/serving/contract/backend.ts'
import { createBlockRunner } from '@copal/gpu-node/pruning/calibration/block-runner.ts'
import { createCalibrationPass } from '@copal/gpu-node/pruning/calibration/calibration-pass.ts'
import { openPartial } from '@copal/gpu-node/pruning/statistics/partial-artifact.ts'
import type { TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import { embedTokens } from '@copal/gpu-node/pruning/calibration/token-chunks.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

/** Sizes of the ratio benchmark. */
export interface RatioSizes {
  /** Calibration sequences, of `length` tokens. */
  samples: number
  length: number
  /**
   * Number of blocks, from the first, that all sequences go through. Blocks cost the same, and all of them would take
   * minutes.
   */
  blocks: number
  /** Sequences of `length` tokens that go through the whole model, as in an evaluation. */
  windows: number
  repetitions: number
  threads: number
}

/** Tokens per step of an evaluation. */
const STEP_TOKENS = 512

/**
 * Measures the time of calibrating one domain, relative to dense forward passes over the same tokens with the same
 * runtime. Each repetition runs all three, and ratios are taken within a repetition.
 *
 * - calibration: blocks as a node runs them, including reading weights and writing statistics to disk;
 * - blocks: the same blocks without statistics, one graph per block, including reading weights, without the head;
 * - evaluation: the whole model as it is served and evaluated, including final norm and head.
 *
 * @returns lines for people
 */
export async function benchCalibrationRatio(
  model: DenseModel,
  dense: { backend: Backend; weights: WeightSet },
  sizes: RatioSizes,
): Promise<string[]> {
  const { length, blocks, threads } = sizes
  const few = { master: model.master, config: { ...model.config, layers: blocks } }
  const sequences = seededSequences(model, sizes.samples, length)
  const pass = await createCalibrationPass(few, length, threads)
  const runner = await createBlockRunner(few, { length, threads, forward: true })
  const home = await mkdtemp(join(tmpdir(), 'copal-ratio-'))
  const share = blocks * sequences.tokens.length
  const figures: Record<'calibration' | 'forward' | 'evaluation', number[]> = {
    calibration: [],
    forward: [],
    evaluation: [],
  }
  try {
    for (let repetition = -1; repetition < sizes.repetitions; repetition++) {
      const calibration = await timed(async () => {
        const partial = await openPartial(home, `repetition${repetition}`)
        await pass.run(sequences, partial, () => undefined)
      })
      const forward = await timed(async () => {
        const hidden = embedTokens(model, sequences.tokens)
        for (let block = 0; block < blocks; block++) {
          await runner.load(block)
          await runner.forward(sequences, hidden)
        }
      })
      const evaluation = await timed(() => scoreWindows(dense, sequences, sizes.windows))
      // The first run also allocates memory.
      if (repetition < 0) continue
      figures.calibration.push((1e6 * calibration) / share)
      figures.forward.push((1e6 * forward) / share)
      figures.evaluation.push((1e6 * evaluation) / (sizes.windows * length * model.config.layers))
    }
  } finally {
    await pass.release()
    await runner.release()
    await rm(home, { recursive: true, force: true })
  }
  const ratios = (to: readonly number[]) =>
    formatSpread(spread(figures.calibration.map((value, i) => value / (to[i] ?? Number.NaN))), '×', 2)
  const per = (values: readonly number[]) => formatSpread(spread(values), 'µs a token and block')
  return [
    `calibration of ${sizes.samples} × ${length} tokens, ${blocks} blocks, ${threads} threads; evaluation of ` +
      `${sizes.windows} × ${length} tokens, ${model.config.layers} blocks, final norm and head`,
    line('calibration, statistics on disk', per(figures.calibration)),
    line('dense forward pass, blocks alone', per(figures.forward)),
    line('dense forward pass, as evaluated', per(figures.evaluation)),
    line('calibration / forward, blocks alone', ratios(figures.forward)),
    line('calibration / forward, as evaluated', ratios(figures.evaluation)),
  ]
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedMs = performance.now()
  await work()
  return (performance.now() - startedMs) / 1000
}

/**
 * Runs each sequence through the whole model in steps and scores every token against its next one, as an evaluation
 * does.
 */
async function scoreWindows(
  { backend, weights }: { backend: Backend; weights: WeightSet },
  { tokens, length }: TokenSequences,
  windows: number,
): Promise<void> {
  for (let window = 0; window < windows; window++) {
    const inputs = tokens.subarray(window * length, (window + 1) * length)
    for (let position = 0; position < length; position += STEP_TOKENS) {
      const step = inputs.slice(position, position + STEP_TOKENS)
      const targets = Int32Array.from(step, (_, i) => inputs[position + i + 1] ?? 0)
      const work: SequenceWork = { sequence: window, tokens: step, position, output: 'nll', targets }
      await backend.step({ weights, work: [work], drop: [] })
    }
    await backend.step({ weights, work: [], drop: [window] })
  }
}

function seededSequences({ config }: DenseModel, sequences: number, length: number): TokenSequences {
  const tokens = Int32Array.from(
    { length: sequences * length },
    (_, index) => (100 + index * 7919) % config.vocabSize,
  )
  return { tokens, sequences, length }
}

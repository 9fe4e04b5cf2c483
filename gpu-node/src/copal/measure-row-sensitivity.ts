import { mkdtemp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import {
  buildBackwardBlock,
  buildLossGradient,
  GRADIENT,
  squaredGradientName,
} from '../graph/backward-block.ts'
import { buildForwardBlock, SEGMENT_OUTPUT } from '../graph/calibration-block.ts'
import { Tensor, type InferenceSession } from '../graph/runtime.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../model/config.ts'
import type { DenseModel } from '../model/dense-model.ts'
import { allocateBlock, loadTensor } from '../model/master.ts'
import type { RowSensitivity } from '../model/row-sensitivity.ts'
import { aTurn, createSession, free, pick, readFiniteBlock, weightFeeds } from './block-runner.ts'
import { statisticTensor } from './block-statistics.ts'
import { explainFullDisk } from './full-disk.ts'
import { worthQuantiles } from './share-rows.ts'
import { chunkFeeds, embed, hiddenOf, type Chunk } from './token-chunks.ts'

/** A measurement of {@link measureRowSensitivity}. */
export interface RowSensitivityOptions {
  /** Each of the same number of tokens. */
  windows: readonly Int32Array[]
  textSha256: string
  threads: number
  /** Takes what enters every block: 4 bytes × hidden size × layers × tokens. Made, used and left empty. */
  scratchDir: string
  /** ISO 8601, into the file. */
  created: string
  signal: AbortSignal
  onProgress: (fraction: number, message: string) => void
}

/**
 * Measures what an error at each output of each linear costs: the diagonal of the empirical Fisher information of the dense
 * model at the outputs, by one forward and one backward pass over the windows. One block of weights is in memory at a time.
 *
 * @throws AppError `unsupported_model` weights or gradients are not finite: names the linear; `internal_error` the disk is
 * full; the reason of the signal
 */
export async function measureRowSensitivity(
  model: DenseModel,
  options: RowSensitivityOptions,
): Promise<RowSensitivity> {
  const { config, master } = model
  const { windows, threads, signal, onProgress } = options
  const length = windows[0]?.length ?? 0
  const chunks = windows.map((_, index): Chunk => ({ batch: 1, length, firstToken: index * length }))
  const tokens = Int32Array.from(windows.flatMap((window) => [...window]))
  await mkdir(options.scratchDir, { recursive: true })
  const scratch = await mkdtemp(join(options.scratchDir, 'gradients-'))
  const hiddenPath = (block: number) => join(scratch, `hidden-${block}.f32`)
  const weights = allocateBlock(config)
  const feeds = weightFeeds(weights, config)
  // A backward pass is two forward ones, and makes the forward one again.
  const steps = 4 * config.layers
  let forward: InferenceSession | undefined
  let backward: InferenceSession | undefined
  try {
    forward = await createSession(buildForwardBlock(config, length), threads, true)
    const stream = embed(model, tokens)
    for (let block = 0; block < config.layers; block++) {
      onProgress(block / steps, `forward, block ${block + 1} of ${config.layers}`)
      await writeFile(hiddenPath(block), stream).catch((error: unknown) => {
        throw explainFullDisk(error, scratch)
      })
      await readFiniteBlock(master, block, weights)
      for (const chunk of chunks) {
        signal.throwIfAborted()
        const { [SEGMENT_OUTPUT.down]: leaving } = await forward.run({
          ...feeds,
          ...chunkFeeds(chunk, stream, config),
        })
        replace(stream, chunk, config, leaving)
        await aTurn()
      }
    }
    const loss = await lossGradient(model, chunks, tokens, stream, threads)
    const linears: RowSensitivity['linears'] = {}
    backward = await createSession(buildBackwardBlock(config, length), threads, true)
    for (let block = config.layers - 1; block >= 0; block--) {
      onProgress(
        (4 * config.layers - 3 * (block + 1)) / steps,
        `backward, block ${block + 1} of ${config.layers}`,
      )
      await readFiniteBlock(master, block, weights)
      const bytes = await readFile(hiddenPath(block))
      const hidden = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
      const sums = new Map<string, Float64Array>()
      for (const chunk of chunks) {
        signal.throwIfAborted()
        const given = {
          [GRADIENT.hidden]: rowsOf(hidden, chunk, config),
          [GRADIENT.above]: rowsOf(stream, chunk, config),
        }
        const outputs = await backward.run({ ...feeds, ...given })
        replace(stream, chunk, config, outputs[GRADIENT.below])
        for (const [name, squares] of Object.entries(outputs)) {
          if (name === GRADIENT.below) continue
          addTo(sums, name, squares)
          free(squares)
        }
        await aTurn()
      }
      await rm(hiddenPath(block))
      const mean = (name: string) =>
        Float32Array.from(sums.get(name) as Float64Array, (sum) => sum / tokens.length)
      for (const linear of BLOCK_LINEARS) {
        const name = linearName(block, linear)
        const sensitivity = mean(squaredGradientName(linear))
        if (!sensitivity.every(Number.isFinite)) {
          throw new AppError(
            'unsupported_model',
            `The gradient at '${name}' is not finite. Measure on other text.`,
          )
        }
        const [rows, cols] = linearShape(config, linear)
        const squareNorm = mean(statisticTensor('square_norm', linear))
        const worth = worthQuantiles({
          rows,
          cols,
          weights: weights.linears[linear],
          squareNorm,
          sensitivity,
        })
        linears[name] = { rows: sensitivity, worth }
      }
    }
    return {
      format: 'copal-row-sensitivity',
      format_version: 1,
      model: model.id,
      base_sha256: master.baseSha256,
      created: options.created,
      text: { sha256: options.textSha256, windows: windows.length, window_tokens: length },
      nll_mean: loss / (windows.length * (length - 1)),
      linears,
    }
  } finally {
    await forward?.release()
    await backward?.release()
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Replaces what the last block leaves by the loss's gradient there; the loss, nats over all tokens. */
async function lossGradient(
  { config, master }: DenseModel,
  chunks: readonly Chunk[],
  tokens: Int32Array,
  stream: Float32Array,
  threads: number,
): Promise<number> {
  const { vocabSize, hiddenSize, tiedEmbedding } = config
  const head = tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight'
  const length = chunks[0]?.length ?? 0
  const session = await createSession(buildLossGradient(config, length), threads, false)
  const feeds = {
    [head]: new Tensor('float32', await loadTensor(master, head), [vocabSize, hiddenSize]),
    'model.norm.weight': new Tensor('float32', await loadTensor(master, 'model.norm.weight'), [hiddenSize]),
  }
  try {
    let loss = 0
    for (const chunk of chunks) {
      const next = BigInt64Array.from(
        tokens.subarray(chunk.firstToken + 1, chunk.firstToken + length + 1),
        (token) => BigInt(token),
      )
      const targets = new BigInt64Array(length)
      targets.set(next.subarray(0, length - 1))
      const outputs = await session.run({
        ...pick(feeds, session.inputNames),
        [GRADIENT.hidden]: rowsOf(stream, chunk, config),
        [GRADIENT.targets]: new Tensor('int64', targets, [length, 1]),
      })
      loss += (outputs[GRADIENT.loss] as Tensor).data[0] as number
      replace(stream, chunk, config, outputs[GRADIENT.below])
      await aTurn()
    }
    return loss
  } finally {
    await session.release()
  }
}

function addTo(sums: Map<string, Float64Array>, name: string, { data }: Tensor): void {
  const sum = sums.get(name) ?? new Float64Array(data.length)
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (data[i] as number)
  sums.set(name, sum)
}

/** A sequence's rows, as a tensor on them. */
function rowsOf(stream: Float32Array, chunk: Chunk, config: LlamaConfig): Tensor {
  return new Tensor('float32', hiddenOf(stream, chunk, config), [chunk.length, config.hiddenSize])
}

function replace(stream: Float32Array, chunk: Chunk, config: LlamaConfig, by: Tensor | undefined): void {
  hiddenOf(stream, chunk, config).set(by?.data as Float32Array)
  free(by)
}

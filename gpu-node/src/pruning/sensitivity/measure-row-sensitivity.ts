import { open, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import {
  buildBackwardBlock,
  buildLossGradient,
  BACKWARD_NAMES,
  squaredGradientName,
} from './backward-graph.ts'
import { explainFullDisk } from '../../platform/full-disk.ts'
import { buildForwardBlock, SEGMENT_OUTPUT } from '../calibration/calibration-graph.ts'
import { Tensor } from '../graph/onnx-runtime.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { allocateBlock, loadTensor } from '../../model/master/read-master.ts'
import { readInto } from '../../platform/positional-read.ts'
import { ROW_SENSITIVITY_VERSION, type RowSensitivity } from '../../model/sensitivities/row-sensitivity.ts'
import { createScratch, removeScratch } from '../../platform/scratch.ts'
import {
  yieldToEventLoop,
  createSession,
  freeTensor,
  pickFeeds,
  readFiniteBlock,
  weightFeeds,
} from '../calibration/block-runner.ts'
import { statisticTensorName } from '../statistics/statistic-names.ts'
import { worthQuantiles } from '../selection/share-rows.ts'
import type { TextMeasurementOptions } from './text-measurement.ts'
import { chunkFeeds, embedTokens, hiddenOfChunk, type Chunk } from '../calibration/token-chunks.ts'

/** The state of a measurement. */
interface MeasurementState extends Pick<TextMeasurementOptions, 'threads' | 'signal'> {
  model: DenseModel
  /** Tokens per window. */
  length: number
  /** Each window as a chunk of one sequence. */
  chunks: readonly Chunk[]
  tokens: Int32Array
  /** The residual stream of all windows, or the gradient of the loss at it, `[tokens, hidden]`. */
  stream: Float32Array
  report: (step: number, message: string) => void
}

/**
 * Measures how much the loss depends on each output of each linear: the diagonal of the dense model's empirical Fisher
 * information at the outputs, by one forward and one backward pass over the windows. The weights of one block are in memory
 * at a time. The inputs of all blocks are on disk: 4 bytes × hidden size × layers × tokens.
 *
 * @throws AppError `unsupported_model`, naming the linear, when weights or gradients are not finite; `internal_error` when
 * the disk is full; the reason of the signal
 */
export async function measureRowSensitivity(
  model: DenseModel,
  { windows, textSha256, threads, cacheDir, created, signal, onProgress }: TextMeasurementOptions,
): Promise<RowSensitivity> {
  const length = windows[0]?.length ?? 0
  const tokens = Int32Array.from(windows.flatMap((window) => [...window]))
  // A backward pass takes as long as two forward ones, and also computes the forward pass again.
  const steps = 4 * model.config.layers
  const work: MeasurementState = {
    model,
    length,
    chunks: windows.map((_, index) => ({ batch: 1, length, firstToken: index * length })),
    tokens,
    stream: embedTokens(model, tokens),
    threads,
    signal,
    report: (step, message) => onProgress(step / steps, message),
  }
  const scratch = await createScratch(cacheDir)
  try {
    const blockInputs = await openHiddenStateFile(join(scratch, 'hidden.f32'), work)
    try {
      await runForward(work, blockInputs)
      const loss = await runLossBackward(work)
      return {
        format: 'copal-row-sensitivity',
        format_version: ROW_SENSITIVITY_VERSION,
        model: model.id,
        base_sha256: model.master.baseSha256,
        created,
        text: { sha256: textSha256, windows: windows.length, window_tokens: length },
        nll_mean: loss / (windows.length * (length - 1)),
        linears: await runBackward(work, blockInputs),
      }
    } finally {
      await blockInputs.close()
    }
  } finally {
    await removeScratch(scratch)
  }
}

/** Runs the forward pass: replaces `stream` by the output of the last block, and stores the input of every block. */
async function runForward(
  { model, length, chunks, stream, threads, signal, report }: MeasurementState,
  blockInputs: HiddenStateFile,
) {
  const { config, master } = model
  const weights = allocateBlock(config)
  const feeds = weightFeeds(weights, config)
  const session = await createSession(buildForwardBlock(config, length), threads, true)
  try {
    for (let block = 0; block < config.layers; block++) {
      report(block, `forward, block ${block + 1} of ${config.layers}`)
      await readFiniteBlock(master, block, weights)
      for (const chunk of chunks) {
        signal.throwIfAborted()
        await blockInputs.write(block, chunk)
        const outputs = await session.run({ ...feeds, ...chunkFeeds(chunk, stream, config) })
        replaceInStream(stream, chunk, config, outputs[SEGMENT_OUTPUT.down])
        await yieldToEventLoop()
      }
    }
  } finally {
    await session.release()
  }
}

/** Replaces the output of the last block in `stream` by the loss's gradient at it. Returns the loss: nats, over all tokens. */
async function runLossBackward(work: MeasurementState): Promise<number> {
  const { model, length, chunks, tokens, stream, threads, signal, report } = work
  const { config, master } = model
  const { vocabSize, hiddenSize, layers, tiedEmbedding } = config
  const head = tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight'
  const session = await createSession(buildLossGradient(config, length), threads, false)
  try {
    const feeds = {
      [head]: new Tensor('float32', await loadTensor(master, head), [vocabSize, hiddenSize]),
      'model.norm.weight': new Tensor('float32', await loadTensor(master, 'model.norm.weight'), [hiddenSize]),
    }
    let loss = 0
    for (const [index, chunk] of chunks.entries()) {
      signal.throwIfAborted()
      report(layers, `loss, window ${index + 1} of ${chunks.length}`)
      const { firstToken } = chunk
      const next = tokens.subarray(firstToken + 1, firstToken + length)
      // The last token has no next token; its target is ignored.
      const targets = BigInt64Array.from([...next, 0], (token) => BigInt(token))
      const outputs = await session.run({
        ...pickFeeds(feeds, session.inputNames),
        [BACKWARD_NAMES.hidden]: streamTensor(stream, chunk, config),
        [BACKWARD_NAMES.targets]: new Tensor('int64', targets, [length, 1]),
      })
      loss += (outputs[BACKWARD_NAMES.loss] as Tensor).data[0] as number
      replaceInStream(stream, chunk, config, outputs[BACKWARD_NAMES.inputGradient])
      await yieldToEventLoop()
    }
    return loss
  } finally {
    await session.release()
  }
}

/** Runs the backward pass from the gradient in `stream`, and returns the sensitivity of every linear. */
async function runBackward(
  work: MeasurementState,
  blockInputs: HiddenStateFile,
): Promise<RowSensitivity['linears']> {
  const { model, length, chunks, tokens, stream, threads, signal, report } = work
  const { config, master } = model
  const weights = allocateBlock(config)
  const feeds = weightFeeds(weights, config)
  const linears: RowSensitivity['linears'] = {}
  const session = await createSession(buildBackwardBlock(config, length), threads, true)
  try {
    for (let block = config.layers - 1; block >= 0; block--) {
      report(4 * config.layers - 3 * (block + 1), `backward, block ${block + 1} of ${config.layers}`)
      await readFiniteBlock(master, block, weights)
      const sums = new Map<string, Float64Array>()
      for (const chunk of chunks) {
        signal.throwIfAborted()
        const hidden = new Tensor('float32', await blockInputs.read(block, chunk), [
          length,
          config.hiddenSize,
        ])
        const outputGradient = streamTensor(stream, chunk, config)
        const { [BACKWARD_NAMES.inputGradient]: inputGradient, ...squares } = await session.run({
          ...feeds,
          [BACKWARD_NAMES.hidden]: hidden,
          [BACKWARD_NAMES.outputGradient]: outputGradient,
        })
        replaceInStream(stream, chunk, config, inputGradient)
        for (const [name, tensor] of Object.entries(squares)) addToSum(sums, name, tensor)
        await yieldToEventLoop()
      }
      for (const linear of BLOCK_LINEARS) {
        const name = linearName(block, linear)
        const mean = (sum: string) =>
          Float32Array.from(sums.get(sum) as Float64Array, (value) => value / tokens.length)
        const rows = mean(squaredGradientName(linear))
        if (!rows.every(Number.isFinite)) {
          throw new AppError(
            'unsupported_model',
            `The gradient at '${name}' is not finite. Measure on other text.`,
          )
        }
        const squareNorm = mean(statisticTensorName('square_norm', linear))
        const worth = worthQuantiles(linearShape(config, linear), weights.linears[linear], squareNorm, rows)
        linears[name] = { rows, worth }
      }
    }
    return linears
  } finally {
    await session.release()
  }
}

/** A file with the inputs of all blocks. */
interface HiddenStateFile {
  /** Stores the chunk of the stream that enters a block. */
  write(block: number, chunk: Chunk): Promise<void>
  /** Reads a stored chunk, `[length, hidden]`; valid until the next read. */
  read(block: number, chunk: Chunk): Promise<Float32Array>
  close(): Promise<void>
}

async function openHiddenStateFile(
  path: string,
  { model, length, chunks, stream }: MeasurementState,
): Promise<HiddenStateFile> {
  const { config } = model
  const chunkBytes = 4 * length * config.hiddenSize
  const offsetOf = (block: number, { firstToken }: Chunk) =>
    (block * chunks.length + firstToken / length) * chunkBytes
  const buffer = new Float32Array(chunkBytes / 4)
  const file: FileHandle = await open(path, 'w+')
  return {
    async write(block, chunk) {
      const rows = hiddenOfChunk(stream, chunk, config)
      try {
        const { bytesWritten } = await file.write(rows, 0, rows.byteLength, offsetOf(block, chunk))
        if (bytesWritten < rows.byteLength) throw Object.assign(new Error('short write'), { code: 'ENOSPC' })
      } catch (error) {
        const gigabytes = (config.layers * chunks.length * chunkBytes) / 1e9
        const purpose = `for ${gigabytes.toFixed(1)} GB of hidden states`
        throw explainFullDisk(error, dirname(path), purpose, 'measure on fewer or shorter windows')
      }
    },
    async read(block, chunk) {
      await readInto(file, offsetOf(block, chunk), new Uint8Array(buffer.buffer), path)
      return buffer
    },
    close: () => file.close(),
  }
}

function addToSum(sums: Map<string, Float64Array>, name: string, tensor: Tensor): void {
  const values = tensor.data as Float32Array
  const sum = sums.get(name) ?? new Float64Array(values.length)
  for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number)
  sums.set(name, sum)
  freeTensor(tensor)
}

/** Returns a chunk's rows of the stream, as a tensor that shares their memory. */
function streamTensor(stream: Float32Array, chunk: Chunk, config: LlamaConfig): Tensor {
  return new Tensor('float32', hiddenOfChunk(stream, chunk, config), [chunk.length, config.hiddenSize])
}

function replaceInStream(
  stream: Float32Array,
  chunk: Chunk,
  config: LlamaConfig,
  by: Tensor | undefined,
): void {
  hiddenOfChunk(stream, chunk, config).set(by?.data as Float32Array)
  freeTensor(by)
}

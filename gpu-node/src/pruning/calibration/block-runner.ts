import {
  BLOCK_SEGMENTS,
  buildCalibrationSegment,
  buildForwardBlock,
  SEGMENT_OUTPUT,
} from './calibration-graph.ts'
import { encodeModel, type OnnxGraph } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/onnx-runtime.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { allocateBlock, readBlock, type BlockWeights } from '../../model/master/read-master.ts'
import { createBlockSums, toSumInputs, type BlockStatistics } from './block-sums.ts'
import { requireFiniteWeights } from '../../model/master/finite-weights.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import type { StatisticSet } from '../statistics/statistic-names.ts'
import type { TokenSequences } from './token-sequences.ts'
import {
  activationMemory,
  chunkFeeds,
  cutChunks,
  hiddenOfChunk,
  largestChunkTokens,
  type Chunk,
} from './token-chunks.ts'

/**
 * Runs one decoder block at a time. Its weights, its statistics and the activations of one chunk are in memory. On a device,
 * runs and reading the statistics can throw a {@link LostBlockError}.
 */
export interface BlockRunner {
  /** Weights of the block that {@link load} read. Changes of them take effect in the next run. */
  readonly weights: BlockWeights
  /**
   * Replaces the weights by those of a block.
   *
   * @throws AppError `unsupported_model`, naming the linear, when weights are not finite
   */
  load(block: number): Promise<void>
  /**
   * Runs the block with statistics over all sequences.
   *
   * @param hidden input of the block, `[tokens, hidden]` f32
   * @param next receives the output of the block; may be `hidden`; null to drop the output
   * @returns the sums, valid until the next call
   */
  calibrate(
    sequences: TokenSequences,
    hidden: Float32Array,
    next: Float32Array | null,
  ): Promise<BlockStatistics>
  release(): Promise<void>
}

/** A runner on the processor. */
export interface ProcessorRunner extends BlockRunner {
  /** Runs the block without statistics, and replaces its input `hidden` by its output. */
  forward(sequences: TokenSequences, hidden: Float32Array): Promise<void>
}

/** The block at hand is lost with its device. It can be run again from its beginning, by another runner. */
export class LostBlockError extends Error {
  override readonly name = 'LostBlockError'
}

/** Creates a runner for a model. */
export type CreateBlockRunner = (
  model: { config: LlamaConfig; master: DenseMaster },
  options: RunnerOptions,
) => Promise<BlockRunner>

/** Options of a block runner. */
export interface RunnerOptions {
  /** Maximum tokens of a sequence. */
  length: number
  threads: number
  /** Whether {@link ProcessorRunner.forward} will be called; its graph takes memory. */
  forward: boolean
  /** Default `all`. */
  statistics?: StatisticSet
  /** Called between chunks; the work goes on when it has settled. By default it yields to the event loop. */
  pause?: (() => Promise<void>) | undefined
}

/** Creates a runner on the processor. Its graphs serve every block of the model, because the weights are their inputs. */
export async function createBlockRunner(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  { length, threads, forward, statistics: set = 'all', pause = yieldToEventLoop }: RunnerOptions,
): Promise<ProcessorRunner> {
  const weights = allocateBlock(config)
  const sums = createBlockSums(config, set)
  const feeds = weightFeeds(weights, config)
  const { kept } = activationMemory(config, largestChunkTokens(length))
  const segments: SegmentSession[] = []
  for (const segment of BLOCK_SEGMENTS) {
    const graph = buildCalibrationSegment(config, length, segment, set)
    const session = await createSession(graph, threads, kept)
    const statistics = sums.tensors(segment)
    const own = { ...pickFeeds(feeds, session.inputNames), ...toSumInputs(statistics) }
    segments.push({ session, statistics, output: SEGMENT_OUTPUT[segment], feeds: own })
  }
  const whole = forward ? await createSession(buildForwardBlock(config, length), threads, kept) : null

  /** Runs one chunk through every segment, and returns the output of the block in new memory. */
  const calibrateChunk = async (chunk: Chunk, hidden: Float32Array): Promise<Tensor> => {
    const activations = chunkFeeds(chunk, hidden, config)
    for (const { session, statistics, output, feeds: own } of segments) {
      const inputs = { ...own, ...pickFeeds(activations, session.inputNames) }
      const outputs = await session.run(inputs, { ...statistics, [output]: null })
      // The sums themselves were written in place.
      for (const name of Object.keys(statistics)) freeTensor(outputs[name])
      activations[output] = outputs[output] as Tensor
    }
    freeTensor(activations[SEGMENT_OUTPUT.attention])
    freeTensor(activations[SEGMENT_OUTPUT.gate_up])
    return activations[SEGMENT_OUTPUT.down] as Tensor
  }

  return {
    weights,
    load: (block) => readFiniteBlock(master, block, weights),
    async calibrate(sequences, hidden, next) {
      sums.clear()
      for (const chunk of cutChunks(sequences)) {
        const blockOutput = await calibrateChunk(chunk, hidden)
        if (next) hiddenOfChunk(next, chunk, config).set(blockOutput.data as Float32Array)
        freeTensor(blockOutput)
        await pause()
      }
      return sums
    },
    async forward(sequences, hidden) {
      if (!whole) throw new RangeError('the runner was made without a forward graph')
      for (const chunk of cutChunks(sequences)) {
        const outputs = await whole.run({ ...feeds, ...chunkFeeds(chunk, hidden, config) })
        const blockOutput = outputs[SEGMENT_OUTPUT.down] as Tensor
        hiddenOfChunk(hidden, chunk, config).set(blockOutput.data as Float32Array)
        freeTensor(blockOutput)
        await pause()
      }
    },
    async release() {
      for (const { session } of segments) await session.release()
      await whole?.release()
      sums.release()
      for (const values of Object.values(weights.linears)) freeMemory(values)
    },
  }
}

/**
 * Reads the weights of a block into `weights`.
 *
 * @throws AppError `unsupported_model`, naming the linear, when weights are not finite
 */
export async function readFiniteBlock(
  master: DenseMaster,
  block: number,
  weights: BlockWeights,
): Promise<void> {
  await readBlock(master, block, weights)
  for (const linear of BLOCK_LINEARS) requireFiniteWeights(weights.linears[linear], linearName(block, linear))
}

/** The session of one segment, with the inputs and outputs that are the same in every run. */
interface SegmentSession {
  session: InferenceSession
  output: string
  feeds: Readonly<Record<string, Tensor>>
  statistics: Readonly<Record<string, Tensor>>
}

/** Creates a session that runs in the background of serving. */
export function createSession(
  graph: OnnxGraph,
  threads: number,
  keepMemory: boolean,
): Promise<InferenceSession> {
  return InferenceSession.create(encodeModel(graph), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableCpuMemArena: keepMemory,
    // Threads that spin between operators would take processor time from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  })
}

/** Returns the weights as inputs of the graphs of a block, under their names in layer 0. */
export function weightFeeds(weights: BlockWeights, config: LlamaConfig): Record<string, Tensor> {
  const norm = [config.hiddenSize]
  const feeds: Record<string, Tensor> = {
    'model.layers.0.input_layernorm.weight': new Tensor('float32', weights.inputNorm, norm),
    'model.layers.0.post_attention_layernorm.weight': new Tensor('float32', weights.postAttentionNorm, norm),
  }
  for (const linear of BLOCK_LINEARS) {
    feeds[linearName(0, linear)] = new Tensor('float32', weights.linears[linear], linearShape(config, linear))
  }
  return feeds
}

/** Returns the entries of `feeds` that a graph reads. */
export function pickFeeds(
  feeds: Readonly<Record<string, Tensor>>,
  names: readonly string[],
): Record<string, Tensor> {
  const known = names.flatMap((name) => {
    const tensor = feeds[name]
    return tensor ? [[name, tensor] as const] : []
  })
  return Object.fromEntries(known)
}

/** Frees the memory of an output. */
export function freeTensor(tensor: Tensor | undefined): void {
  if (tensor) freeMemory(tensor.data as Float32Array<ArrayBuffer>)
}

/** Yields to the event loop, which `run` does not, so that the process handles messages from its parent and its exit. */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

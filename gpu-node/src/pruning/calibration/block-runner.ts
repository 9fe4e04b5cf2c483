import {
  BLOCK_SEGMENTS,
  buildCalibrationSegment,
  buildForwardBlock,
  distinctInputs,
  outputInputs,
  SEGMENT_OUTPUT,
  type BlockSegment,
} from './calibration-graph.ts'
import { encodeModel, type OnnxGraph } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/onnx-runtime.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { allocateBlock, readBlock, type BlockWeights } from '../../model/master/read-master.ts'
import { toSumInputs, createBlockSums, type BlockSums } from './block-sums.ts'
import { requireFiniteWeights } from '../../model/master/finite-weights.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import { LINEAR_INPUT, type StatisticSet } from '../statistics/statistic-names.ts'
import { linearInputName } from '../graph/decoder-block.ts'
import type { MomentSummer } from './moment-summer.ts'
import type { TokenSequences } from './token-sequences.ts'
import {
  activationMemory,
  chunkFeeds,
  cutChunks,
  hiddenOfChunk,
  largestChunkTokens,
  type Chunk,
} from './token-chunks.ts'

/** Runs one decoder block at a time. Its weights, its statistics and the activations of one chunk are in memory. */
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
  calibrate(sequences: TokenSequences, hidden: Float32Array, next: Float32Array | null): Promise<BlockSums>
  /** Runs the block without statistics, and replaces its input `hidden` by its output. */
  forward(sequences: TokenSequences, hidden: Float32Array): Promise<void>
  release(): Promise<void>
}

/** Options of a block runner. */
export interface RunnerOptions {
  /** Maximum tokens of a sequence. */
  length: number
  threads: number
  /** Whether {@link BlockRunner.forward} will be called; its graph takes memory. */
  forward: boolean
  /** Default `all`. */
  statistics?: StatisticSet
  /** Sums the second moments, and is closed by {@link BlockRunner.release}; by default the graphs do. */
  moments?: MomentSummer | null | undefined
  /** Called between chunks; the work goes on when it has settled. By default it yields to the event loop. */
  pause?: (() => Promise<void>) | undefined
}

/** Creates a runner. Its graphs serve every block of the model, because the weights are their inputs. */
export async function createBlockRunner(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  {
    length,
    threads,
    forward,
    statistics: set = 'all',
    moments = null,
    pause = yieldToEventLoop,
  }: RunnerOptions,
): Promise<BlockRunner> {
  const weights = allocateBlock(config)
  const sums = createBlockSums(config, set, moments)
  const feeds = weightFeeds(weights, config)
  const { kept } = activationMemory(config, largestChunkTokens(length))
  const segments: SegmentSession[] = []
  for (const segment of BLOCK_SEGMENTS) {
    const graph = buildCalibrationSegment(config, length, segment, set, moments === null)
    const session = await createSession(graph, threads, kept)
    const statistics = sums.tensors(segment)
    const own = { ...pickFeeds(feeds, session.inputNames), ...toSumInputs(statistics) }
    segments.push({ segment, session, statistics, output: SEGMENT_OUTPUT[segment], feeds: own })
  }
  const whole = forward ? await createSession(buildForwardBlock(config, length), threads, kept) : null

  /** Adds the inputs of a segment's linears to their second moments, and frees those that are not needed any more. */
  const sumInputs = async (
    segment: BlockSegment,
    tensors: Readonly<Record<string, Tensor>>,
  ): Promise<void> => {
    for (const linear of distinctInputs(segment)) {
      const tensor = tensors[linearInputName(0, linear)] as Tensor
      await sums.addInputs(LINEAR_INPUT[linear], tensor.data as Float32Array)
      if (outputInputs(segment).includes(linear)) freeTensor(tensor)
    }
  }

  /** Runs one chunk through every segment, and returns the output of the block in new memory. */
  const calibrateChunk = async (chunk: Chunk, hidden: Float32Array): Promise<Tensor> => {
    const activations = chunkFeeds(chunk, hidden, config)
    for (const { segment, session, statistics, output, feeds: own } of segments) {
      const inputs = { ...own, ...pickFeeds(activations, session.inputNames) }
      const summed = moments ? outputInputs(segment).map((linear) => [linearInputName(0, linear), null]) : []
      const wanted = { ...statistics, ...Object.fromEntries(summed), [output]: null }
      const outputs = await session.run(inputs, wanted)
      // The sums themselves were written in place.
      for (const name of Object.keys(statistics)) freeTensor(outputs[name])
      if (moments) await sumInputs(segment, { ...activations, ...outputs })
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
      await sums.clear()
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
  segment: BlockSegment
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

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
import { toSumInputs, createBlockSums, type BlockSums } from './block-sums.ts'
import { requireFiniteWeights } from '../../model/master/finite-weights.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import type { TokenSequences } from './token-sequences.ts'
import {
  activationMemory,
  chunkFeeds,
  cutChunks,
  hiddenOfChunk,
  largestChunkTokens,
  type Chunk,
} from './token-chunks.ts'

/** One decoder block at a time in memory: its weights, its statistics, the activations of one chunk. */
export interface BlockRunner {
  /** Of the block that {@link load} read; whoever changes them changes what runs until the next load. */
  readonly weights: BlockWeights
  /**
   * Reads the weights of a block in place of those before.
   *
   * @throws AppError `unsupported_model` weights are not finite: names the linear
   */
  load(block: number): Promise<void>
  /**
   * Runs the block with statistics over all sequences.
   *
   * @param hidden `[tokens, hidden]` f32, what enters the block
   * @param next where what leaves the block is put; may be `hidden`; null: nowhere
   * @returns the sums, until the next call
   */
  calibrate(sequences: TokenSequences, hidden: Float32Array, next: Float32Array | null): Promise<BlockSums>
  /** Runs the block without statistics and puts what leaves it in place of what enters. */
  forward(sequences: TokenSequences, hidden: Float32Array): Promise<void>
  release(): Promise<void>
}

/** Which graphs a runner may be asked to run; each that is made takes its memory. */
export interface RunnerOptions {
  /** Longest sequence. */
  length: number
  threads: number
  /** `false`: {@link BlockRunner.calibrate} alone may be called. */
  forward: boolean
}

/** Prepares the graphs of one block; every block of the model runs through them, as their weights are inputs. */
export async function createBlockRunner(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  { length, threads, forward }: RunnerOptions,
): Promise<BlockRunner> {
  const weights = allocateBlock(config)
  const sums = createBlockSums(config)
  const feeds = weightFeeds(weights, config)
  const { kept } = activationMemory(config, largestChunkTokens(length))
  const segments: SegmentSession[] = []
  for (const segment of BLOCK_SEGMENTS) {
    const session = await createSession(buildCalibrationSegment(config, length, segment), threads, kept)
    const statistics = sums.tensors(segment)
    const own = { ...pickFeeds(feeds, session.inputNames), ...toSumInputs(statistics) }
    segments.push({ session, statistics, output: SEGMENT_OUTPUT[segment], feeds: own })
  }
  const whole = forward ? await createSession(buildForwardBlock(config, length), threads, kept) : null

  /** Runs one chunk through every segment; what leaves the block, in memory of its own. */
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
        const leaving = await calibrateChunk(chunk, hidden)
        if (next) hiddenOfChunk(next, chunk, config).set(leaving.data as Float32Array)
        freeTensor(leaving)
        await yieldToEventLoop()
      }
      return sums
    },
    async forward(sequences, hidden) {
      if (!whole) throw new RangeError('the runner was made without a forward graph')
      for (const chunk of cutChunks(sequences)) {
        const outputs = await whole.run({ ...feeds, ...chunkFeeds(chunk, hidden, config) })
        const leaving = outputs[SEGMENT_OUTPUT.down] as Tensor
        hiddenOfChunk(hidden, chunk, config).set(leaving.data as Float32Array)
        freeTensor(leaving)
        await yieldToEventLoop()
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
 * Reads the weights of a block in place of those before.
 *
 * @throws AppError `unsupported_model` weights are not finite: names the linear
 */
export async function readFiniteBlock(
  master: DenseMaster,
  block: number,
  weights: BlockWeights,
): Promise<void> {
  await readBlock(master, block, weights)
  for (const linear of BLOCK_LINEARS) requireFiniteWeights(weights.linears[linear], linearName(block, linear))
}

/** One of a block's graphs, with what is the same in every run of it. */
interface SegmentSession {
  session: InferenceSession
  output: string
  feeds: Readonly<Record<string, Tensor>>
  statistics: Readonly<Record<string, Tensor>>
}

/** A session for one block's graph. */
export function createSession(
  graph: OnnxGraph,
  threads: number,
  keepMemory: boolean,
): Promise<InferenceSession> {
  return InferenceSession.create(encodeModel(graph), {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    enableCpuMemArena: keepMemory,
    // Spinning between operators would take the processor from serving.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  })
}

/** The weights as inputs of any graph of a block. */
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

/** The entries of `feeds` that a graph reads. */
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

/** Frees the copy that a run made of an output. */
export function freeTensor(tensor: Tensor | undefined): void {
  if (tensor) freeMemory(tensor.data as Float32Array<ArrayBuffer>)
}

/** `run` never leaves the event loop a turn: this lets the parent's messages and its end through. */
export function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

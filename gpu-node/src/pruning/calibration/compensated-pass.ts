import { SEGMENT_OUTPUT } from './calibration-graph.ts'
import { buildLinearSums, buildMomentSum, buildTracedLinears, tracedNames } from './compensated-graph.ts'
import { Tensor, type InferenceSession } from '../graph/onnx-runtime.ts'
import { sumInputName } from './sum-graph.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { allocateBlock, type BlockWeights } from '../../model/master/read-master.ts'
import type { BlockTensor } from '../statistics/block-file.ts'
import { aTurn, createSession, free, pick, readFiniteBlock, weightFeeds } from './block-runner.ts'
import {
  BLOCK_INPUTS,
  deviationNames,
  INPUT_OF,
  statisticTensor,
  type BlockInput,
} from '../statistics/statistic-names.ts'
import { requireFiniteNorm } from './block-sums.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import type { TokenSequences } from './token-sequences.ts'
import { activationMemory, chunkFeeds, chunksOf, hiddenOf, largestChunk, type Chunk } from './token-chunks.ts'

/**
 * Statistics of the linears of one block that read the same vector, while the linears before them, of this block too, are
 * pruned already, and the dense model runs beside it. A block goes through `load`, then `run` and `advance` for each input.
 */
export interface CompensatedPass {
  /** Of the block that {@link load} read, as dense as there until they are pruned here. */
  readonly weights: BlockWeights
  /**
   * Reads the dense weights of a block.
   *
   * @throws AppError `unsupported_model` weights are not finite: names the linear
   */
  load(block: number): Promise<void>
  /**
   * @param dense residual stream `[tokens, hidden]` that these linears read in the dense model; replaced by what they make
   * of it, where they add to it
   * @param pruned what pruned linears give in its place; stays
   * @returns the tensors of `statisticTensors` and `deviationNames` of the linears that read `input`
   * @throws AppError `unsupported_model` activations are not finite: names the block
   */
  run(
    input: BlockInput,
    sequences: TokenSequences,
    dense: Float32Array,
    pruned: Float32Array,
  ): Promise<BlockTensor[]>
  /** Replaces `pruned` by what these linears, pruned by now, make of it, where they add to the residual stream. */
  advance(input: BlockInput, sequences: TokenSequences, pruned: Float32Array): Promise<void>
  release(): Promise<void>
}

/** The linears that read an input. */
export function linearsReading(input: BlockInput): BlockLinear[] {
  return BLOCK_LINEARS.filter((linear) => INPUT_OF[linear] === input)
}

/** Prepares the graphs. */
export async function createCompensatedPass(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  { length, threads }: { length: number; threads: number },
): Promise<CompensatedPass> {
  const { kept } = activationMemory(config, largestChunk(length))
  const traced = new Map<BlockInput, InferenceSession>()
  for (const input of BLOCK_INPUTS) {
    const graph = buildTracedLinears(config, length, linearsReading(input))
    traced.set(input, await createSession(graph, threads, kept))
  }
  const linearSums = await createSession(buildLinearSums(), threads, kept)
  const momentSum = await createSession(buildMomentSum(), threads, kept)
  const denseWeights = allocateBlock(config)
  // Norms are not pruned.
  const weights = { ...denseWeights, linears: allocateBlock(config).linears }
  const feeds = { dense: weightFeeds(denseWeights, config), pruned: weightFeeds(weights, config) }
  let loaded = -1

  /** What a chunk's residual stream brings: what the linears that read `input` read and make. */
  const trace = async (
    input: BlockInput,
    chunk: Chunk,
    stream: Float32Array,
    ofWeights: Readonly<Record<string, Tensor>>,
  ): Promise<InferenceSession.ReturnType> => {
    const session = traced.get(input) as InferenceSession
    const activations = chunkFeeds(chunk, stream, config)
    const middle = activations.hidden as Tensor
    const all = { ...ofWeights, ...activations, [SEGMENT_OUTPUT.attention]: middle }
    return session.run(pick(all, session.inputNames))
  }

  return {
    weights,
    async load(index) {
      await readFiniteBlock(master, index, denseWeights)
      for (const linear of BLOCK_LINEARS) weights.linears[linear].set(denseWeights.linears[linear])
      loaded = index
    },
    async run(input, sequences, dense, pruned) {
      const linears = linearsReading(input).map((linear) => ({ linear, sums: createSums(config, linear) }))
      const moment = createMoment(config, input)
      const shared = tracedNames(linearsReading(input)[0] as BlockLinear).input
      const stream = STREAM_AFTER[input]
      for (const chunk of chunksOf(sequences)) {
        const target = await trace(input, chunk, dense, feeds.dense)
        const found = await trace(input, chunk, pruned, feeds.pruned)
        for (const { linear, sums } of linears) {
          const { input: x, output: y } = tracedNames(linear)
          const given = { target: target[y], output: found[y], input: found[x] }
          await addTo(linearSums, sums, given as Record<string, Tensor>)
        }
        await addTo(momentSum, moment, { input: found[shared] as Tensor })
        if (stream) hiddenOf(dense, chunk, config).set(target[stream]?.data as Float32Array)
        freeAll(target)
        freeAll(found)
        await aTurn()
      }
      return [
        ...linears.flatMap(({ linear, sums }) => {
          const { cross, norm } = deviationNames(linear)
          return [
            tensorOf(cross, sums.deviation),
            tensorOf(norm, sums.deviation_norm),
            tensorOf(statisticTensor('sensitivity', linear), sums.sensitivity),
          ]
        }),
        ...momentTensors(moment.moment, input, loaded),
      ]
    },
    async advance(input, sequences, pruned) {
      const stream = STREAM_AFTER[input]
      if (!stream) return
      for (const chunk of chunksOf(sequences)) {
        const made = await trace(input, chunk, pruned, feeds.pruned)
        hiddenOf(pruned, chunk, config).set(made[stream]?.data as Float32Array)
        freeAll(made)
        await aTurn()
      }
    },
    async release() {
      for (const session of traced.values()) await session.release()
      await linearSums.release()
      await momentSum.release()
      for (const { linears } of [denseWeights, weights]) Object.values(linears).forEach(freeMemory)
    },
  }
}

/** The residual stream behind the linears that read an input, where they add to it. */
const STREAM_AFTER: Readonly<Partial<Record<BlockInput, string>>> = {
  attention_output: SEGMENT_OUTPUT.attention,
  mlp_hidden: SEGMENT_OUTPUT.down,
}

function freeAll(tensors: InferenceSession.ReturnType): void {
  for (const tensor of Object.values(tensors)) free(tensor)
}

function createSums(config: LlamaConfig, linear: BlockLinear) {
  const [rows, cols] = linearShape(config, linear)
  return {
    deviation: zeros(rows, cols),
    sensitivity: zeros(rows, cols),
    deviation_norm: zeros(rows),
  }
}

function createMoment(config: LlamaConfig, input: BlockInput): { moment: Tensor } {
  const [, cols] = linearShape(config, linearsReading(input)[0] as BlockLinear)
  return { moment: zeros(cols, cols) }
}

function zeros(...shape: number[]): Tensor {
  return new Tensor('float32', new Float32Array(shape.reduce((product, size) => product * size, 1)), shape)
}

/** The sums are written in place. */
async function addTo(
  session: InferenceSession,
  sums: Readonly<Record<string, Tensor>>,
  given: Readonly<Record<string, Tensor>>,
): Promise<void> {
  const before = Object.fromEntries(Object.entries(sums).map(([name, sum]) => [sumInputName(name), sum]))
  const outputs = await session.run({ ...given, ...before }, sums)
  for (const name of Object.keys(sums)) free(outputs[name])
}

function momentTensors(moment: Tensor, input: BlockInput, block: number): BlockTensor[] {
  const cols = moment.dims[0] as number
  const full = moment.data as Float32Array
  const triangle = new Float32Array((cols * (cols + 1)) / 2)
  const diagonal = new Float32Array(cols)
  for (let row = 0, to = 0; row < cols; to += cols - row, row++) {
    triangle.set(full.subarray(row * cols + row, (row + 1) * cols), to)
    diagonal[row] = full[row * cols + row] as number
  }
  requireFiniteNorm(diagonal, block, input)
  return [valuesOf(`${input}.second_moment`, triangle), valuesOf(`${input}.square_norm`, diagonal)]
}

function tensorOf(name: string, sum: Tensor): BlockTensor {
  return valuesOf(name, sum.data as Float32Array)
}

function valuesOf(name: string, values: Float32Array): BlockTensor {
  return { name, dtype: 'F32', length: values.length, load: () => values }
}

import { AppError } from '@copal/shared/errors.ts'
import {
  momentPanels,
  panelName,
  SEGMENT_LINEARS,
  type BlockSegment,
  type MomentPanel,
} from './calibration-graph.ts'
import type { MomentSummer } from './moment-summer.ts'
import { Tensor } from '../graph/onnx-runtime.ts'
import { sumInputName } from './sum-graph.ts'
import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import type { BlockTensor } from '../statistics/block-file.ts'
import {
  LINEAR_INPUT,
  statisticTensorName,
  type BlockInput,
  type StatisticSet,
} from '../statistics/statistic-names.ts'
import { freeMemory } from '../../platform/free-memory.ts'

/** The f32 sums of one block's statistics. All blocks use the same memory. */
export interface BlockSums {
  /** Returns a segment's outputs by name, as tensors on the sums: both the inputs with the sums so far and the outputs. */
  tensors(segment: BlockSegment): Readonly<Record<string, Tensor>>
  /** Sets all sums to zero. Call it before each block. */
  clear(): Promise<void>
  /** Adds inputs `[tokens, columns]` of a chunk to their second moment, which a {@link MomentSummer} sums. */
  addInputs(input: BlockInput, values: Float32Array): Promise<void>
  /**
   * Returns the finished statistics, ordered by name, as views of the sums that are valid until {@link clear}.
   *
   * @param block index of the block, for messages
   * @throws AppError `unsupported_model`, naming the block, when activations are not finite
   */
  finish(block: number): Promise<BlockTensor[]>
  release(): void
}

/** The second moments of a block's inputs. */
interface Moments {
  /** The sums that the graph of a segment adds to, by the name of its output. */
  tensors(linears: readonly BlockLinear[]): Record<string, Tensor>
  clear(): Promise<void>
  add(input: BlockInput, values: Float32Array): Promise<void>
  /** The upper triangle of the second moment of each input, and its diagonal, which is NaN where values were not finite. */
  finish(input: BlockInput): Promise<{ triangle: Float32Array; diagonal: Float32Array }>
  release(): void
}

interface MomentSum {
  cols: number
  panels: readonly MomentPanel[]
  /** The panels, one after another. */
  values: Float32Array<ArrayBuffer>
}

/**
 * Allocates the sums of a block: 4 bytes per element of `statisticTensorSizes`, plus the elements of the second moments'
 * panels below the diagonal. f32 is precise enough for some ten thousand tokens: the error of a sum of n chunks is at most
 * n/2 units in the last place. With a summer, which {@link BlockSums.release} closes, it sums the second moments.
 */
export function createBlockSums(
  config: LlamaConfig,
  set: StatisticSet = 'all',
  summer: MomentSummer | null = null,
): BlockSums {
  const sensitivities = new Map(
    (set === 'all' ? BLOCK_LINEARS : []).map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      return [statisticTensorName('sensitivity', linear), new Float32Array(rows * cols)]
    }),
  )
  const sizes = new Map(
    BLOCK_LINEARS.map((linear) => [LINEAR_INPUT[linear], linearShape(config, linear)[1]] as const),
  )
  const moments = summer ? summedMoments(sizes, summer) : graphMoments(sizes)
  return {
    tensors(segment) {
      const linears = SEGMENT_LINEARS[segment]
      const tensors = moments.tensors(linears)
      for (const linear of linears) {
        const name = statisticTensorName('sensitivity', linear)
        const values = sensitivities.get(name)
        if (values) tensors[name] = new Tensor('float32', values, linearShape(config, linear))
      }
      return tensors
    },
    async clear() {
      for (const values of sensitivities.values()) values.fill(0)
      await moments.clear()
    },
    addInputs: (input, values) => moments.add(input, values),
    async finish(block) {
      const tensors = [...sensitivities].map(([name, values]) => blockTensor(name, values))
      for (const input of sizes.keys()) {
        const { triangle, diagonal } = await moments.finish(input)
        requireFiniteNorm(diagonal, block, input)
        tensors.push(
          blockTensor(`${input}.second_moment`, triangle),
          blockTensor(`${input}.square_norm`, diagonal),
        )
      }
      return tensors.sort((a, b) => (a.name < b.name ? -1 : 1))
    },
    release() {
      for (const values of sensitivities.values()) freeMemory(values)
      moments.release()
    },
  }
}

/** Returns second moments that the graphs sum. */
function graphMoments(sizes: ReadonlyMap<BlockInput, number>): Moments {
  const sums = new Map([...sizes].map(([input, cols]) => [input, createMomentSum(cols)]))
  const sumOf = (input: BlockInput) => sums.get(input) as MomentSum
  return {
    tensors(linears) {
      const tensors: Record<string, Tensor> = {}
      for (const linear of linears)
        Object.assign(
          tensors,
          panelTensors(statisticTensorName('second_moment', linear), sumOf(LINEAR_INPUT[linear])),
        )
      return tensors
    },
    async clear() {
      for (const { values } of sums.values()) values.fill(0)
    },
    async add() {},
    finish: async (input) => packTriangle(sumOf(input)),
    release() {
      for (const { values } of sums.values()) freeMemory(values)
    },
  }
}

/** Returns second moments that a summer sums. They are allocated for the first block that ends. */
function summedMoments(sizes: ReadonlyMap<BlockInput, number>, summer: MomentSummer): Moments {
  const triangles = new Map<BlockInput, Float32Array<ArrayBuffer>>()
  /** Inputs that had a value that is not finite. A device may compute anything of it. */
  const damaged = new Set<BlockInput>()
  return {
    tensors: () => ({}),
    clear() {
      damaged.clear()
      return summer.begin(sizes)
    },
    async add(input, values) {
      if (values.every(Number.isFinite)) await summer.add(input, values)
      else damaged.add(input)
    },
    async finish(input) {
      const cols = sizes.get(input) as number
      const diagonal = new Float32Array(cols)
      let triangle = triangles.get(input)
      if (!triangle) triangles.set(input, (triangle = new Float32Array((cols * (cols + 1)) / 2)))
      if (damaged.has(input)) return { triangle, diagonal: diagonal.fill(Number.NaN) }
      await summer.read(input, triangle)
      for (let row = 0, at = 0; row < cols; at += cols - row++) diagonal[row] = triangle[at] as number
      return { triangle, diagonal }
    },
    release() {
      for (const values of triangles.values()) freeMemory(values)
      summer.close()
    },
  }
}

/** Returns the tensors under the names of the inputs for the sums so far. */
export function toSumInputs(tensors: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [sumInputName(name), tensor]))
}

function createMomentSum(cols: number): MomentSum {
  const panels = momentPanels(cols)
  const count = panels.reduce((sum, { first, end }) => sum + (end - first) * (cols - first), 0)
  return { cols, panels, values: new Float32Array(count) }
}

function panelTensors(moment: string, { cols, panels, values }: MomentSum): Record<string, Tensor> {
  const tensors: Record<string, Tensor> = {}
  let begin = 0
  for (const panel of panels) {
    const shape = [panel.end - panel.first, cols - panel.first] as const
    const end = begin + shape[0] * shape[1]
    tensors[panelName(moment, panel)] = new Tensor('float32', values.subarray(begin, end), shape)
    begin = end
  }
  return tensors
}

/**
 * Moves the upper triangle to the front of `values`, row by row. Rows only move toward the front, so none overwrites a row
 * that is still to be moved.
 */
function packTriangle({ cols, panels, values }: MomentSum): {
  triangle: Float32Array
  diagonal: Float32Array
} {
  const diagonal = new Float32Array(cols)
  let from = 0
  let to = 0
  for (const { first, end } of panels) {
    for (let row = first; row < end; row++, from += cols - first) {
      const begin = from + row - first
      diagonal[row] = values[begin] as number
      values.copyWithin(to, begin, from + cols - first)
      to += cols - row
    }
  }
  return { triangle: values.subarray(0, to), diagonal }
}

function blockTensor(name: string, values: Float32Array): BlockTensor {
  return { name, dtype: 'F32', length: values.length, load: () => values }
}

/**
 * Checks the square norms of an input of a block.
 *
 * @throws AppError `unsupported_model`, naming the block, when one is not finite
 */
export function requireFiniteNorm(squareNorm: Float32Array, block: number, input: BlockInput): void {
  if (squareNorm.every(Number.isFinite)) return
  throw new AppError(
    'unsupported_model',
    `Block ${block} of the model gives values that are not finite on this text (${input}): it overflows f32. ` +
      `Calibrate on other text, or serve another model.`,
  )
}

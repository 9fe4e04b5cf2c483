import { AppError } from '@copal/shared/errors.ts'
import {
  momentPanels,
  panelName,
  SEGMENT_LINEARS,
  type BlockSegment,
  type MomentPanel,
} from './calibration-graph.ts'
import { Tensor } from '../graph/onnx-runtime.ts'
import { sumInputName } from './sum-graph.ts'
import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import type { BlockTensor } from '../statistics/block-file.ts'
import {
  LINEAR_INPUT,
  statisticTensorName,
  type BlockInput,
  type StatisticSet,
} from '../statistics/statistic-names.ts'
import { freeMemory } from '../../platform/free-memory.ts'

/** The statistics of the block that ran last. */
export interface BlockStatistics {
  /**
   * Returns the finished statistics, ordered by name. They are valid until the next block runs.
   *
   * @param block index of the block, for messages
   * @throws AppError `unsupported_model`, naming the block, when activations are not finite
   */
  finish(block: number): Promise<BlockTensor[]>
}

/** The f32 sums of one block's statistics. All blocks use the same memory, of which finished statistics are views. */
export interface BlockSums extends BlockStatistics {
  /** Returns a segment's outputs by name, as tensors on the sums: both the inputs with the sums so far and the outputs. */
  tensors(segment: BlockSegment): Readonly<Record<string, Tensor>>
  /** Sets all sums to zero. Call it before each block. */
  clear(): void
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
 * n/2 units in the last place.
 */
export function createBlockSums(config: LlamaConfig, set: StatisticSet = 'all'): BlockSums {
  const sensitivities = new Map(
    (set === 'all' ? BLOCK_LINEARS : []).map((linear) => {
      const [rows, cols] = linearShape(config, linear)
      return [statisticTensorName('sensitivity', linear), new Float32Array(rows * cols)]
    }),
  )
  const sizes = new Map(BLOCK_LINEARS.map((linear) => [LINEAR_INPUT[linear], linearShape(config, linear)[1]]))
  const sums = new Map([...sizes].map(([input, cols]) => [input, createMomentSum(cols)]))
  return {
    tensors(segment) {
      const tensors: Record<string, Tensor> = {}
      for (const linear of SEGMENT_LINEARS[segment]) {
        const sum = sums.get(LINEAR_INPUT[linear]) as MomentSum
        Object.assign(tensors, panelTensors(statisticTensorName('second_moment', linear), sum))
        const name = statisticTensorName('sensitivity', linear)
        const values = sensitivities.get(name)
        if (values) tensors[name] = new Tensor('float32', values, linearShape(config, linear))
      }
      return tensors
    },
    clear() {
      for (const values of sensitivities.values()) values.fill(0)
      for (const { values } of sums.values()) values.fill(0)
    },
    async finish(block) {
      const tensors = [...sensitivities].map(([name, values]) => blockTensor(name, values))
      for (const [input, sum] of sums) {
        const { triangle, diagonal } = packTriangle(sum)
        tensors.push(...momentTensors(block, input, triangle, diagonal))
      }
      return byName(tensors)
    },
    release() {
      for (const values of sensitivities.values()) freeMemory(values)
      for (const { values } of sums.values()) freeMemory(values)
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

/**
 * Returns the tensors of an input's second moment: its upper triangle, and its diagonal as the square norm.
 *
 * @param block index of the block, for messages
 * @throws AppError `unsupported_model`, naming the block, when activations are not finite
 */
export function momentTensors(
  block: number,
  input: BlockInput,
  triangle: Float32Array,
  diagonal: Float32Array,
): BlockTensor[] {
  requireFiniteNorm(diagonal, block, input)
  return [blockTensor(`${input}.second_moment`, triangle), blockTensor(`${input}.square_norm`, diagonal)]
}

/** Sorts tensors by name, in place. */
export function byName(tensors: BlockTensor[]): BlockTensor[] {
  return tensors.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function blockTensor(name: string, values: Float32Array): BlockTensor {
  return { name, dtype: 'F32', length: values.length, load: () => values }
}

/**
 * Checks the square norms of an input of a block.
 *
 * @throws AppError `unsupported_model`, naming the block, when one is not finite
 */
function requireFiniteNorm(squareNorm: Float32Array, block: number, input: BlockInput): void {
  if (squareNorm.every(Number.isFinite)) return
  throw new AppError(
    'unsupported_model',
    `Block ${block} of the model gives values that are not finite on this text (${input}): it overflows f32. ` +
      `Calibrate on other text, or serve another model.`,
  )
}

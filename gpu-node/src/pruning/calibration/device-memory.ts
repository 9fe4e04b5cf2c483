import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import { LINEAR_INPUT, type StatisticSet } from '../statistics/statistic-names.ts'
import { CHUNK_TOKENS, largestChunkTokens } from './token-chunks.ts'

/** Values of an activation of the gated layer at most, and tokens at least, as the GPU addon has them. */
const SLICE_VALUES = 1 << 25
const MIN_SLICE_TOKENS = 256

/**
 * Returns the memory that a calibration takes on a GPU, in bytes, but for some kilobytes. With h the hidden size, i that of the
 * gated layer, q and k the widths of queries and keys, P the weights of a block's linears, T tokens of a chunk and S of a slice
 * of it: 4 · (P + the four second moments, and P more with sensitivities) for the block, and
 * 4 · (T · (2 h + q + 2 k) + S · (h + 2 i)) for activations.
 *
 * @param length tokens of a sequence
 */
export function deviceCalibrationBytes(
  config: LlamaConfig,
  length = CHUNK_TOKENS,
  set: StatisticSet = 'all',
): number {
  const { hiddenSize, intermediateSize, heads, kvHeads, headDim } = config
  const shapes = BLOCK_LINEARS.map((linear) => linearShape(config, linear))
  const weights = shapes.reduce((sum, [rows, cols]) => sum + rows * cols, 0)
  const inputs = new Map(BLOCK_LINEARS.map((linear, index) => [LINEAR_INPUT[linear], shapes[index]![1]]))
  const moments = [...inputs.values()].reduce((sum, cols) => sum + cols ** 2, 0)
  const tokens = largestChunkTokens(length)
  const whole = Math.floor(SLICE_VALUES / intermediateSize / MIN_SLICE_TOKENS) * MIN_SLICE_TOKENS
  const slice = Math.min(tokens, CHUNK_TOKENS, Math.max(MIN_SLICE_TOKENS, whole))
  const states = (heads + 2 * kvHeads) * headDim
  const activations =
    tokens * (2 * hiddenSize + states + 4) + slice * (hiddenSize + 2 * intermediateSize) + length * headDim
  return 4 * ((set === 'all' ? 2 : 1) * weights + moments + activations)
}

/**
 * Returns the memory that an exchange of weights takes on a GPU at most, in bytes: 4 a value of the second moment and 8 a weight,
 * for one linear at a time.
 */
export function deviceExchangeBytes(config: LlamaConfig): number {
  const bytesOf = ([rows, cols]: readonly [number, number]) => 4 * cols ** 2 + 8 * rows * cols
  return Math.max(...BLOCK_LINEARS.map((linear) => bytesOf(linearShape(config, linear))))
}

import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'

/** The name of a statistic that is summed over calibration tokens; see {@link statisticTensorSizes} for shapes. */
export type StatisticName = 'sensitivity' | 'second_moment' | 'square_norm'

/**
 * The statistics of an artifact. `moments` are those without `sensitivity`, which is 70 % of the bytes and which only methods
 * of the rule `copal` read.
 */
export type StatisticSet = 'all' | 'moments'

/** The input vectors of a block. Linears with the same input share its `second_moment` and `square_norm`. */
export const BLOCK_INPUTS = ['attention_input', 'attention_output', 'mlp_input', 'mlp_hidden'] as const
export type BlockInput = (typeof BLOCK_INPUTS)[number]

/** The input vector of each linear. */
export const LINEAR_INPUT: Readonly<Record<BlockLinear, BlockInput>> = {
  'self_attn.q_proj': 'attention_input',
  'self_attn.k_proj': 'attention_input',
  'self_attn.v_proj': 'attention_input',
  'self_attn.o_proj': 'attention_output',
  'mlp.gate_proj': 'mlp_input',
  'mlp.up_proj': 'mlp_input',
  'mlp.down_proj': 'mlp_hidden',
}

/** Returns the tensor name of a linear's statistic, such as `self_attn.q_proj.sensitivity` or `mlp_input.square_norm`. */
export function statisticTensorName(statistic: StatisticName, linear: BlockLinear): string {
  return `${statistic === 'sensitivity' ? linear : LINEAR_INPUT[linear]}.${statistic}`
}

/**
 * Returns the number of elements of every statistics tensor of one block, by name, in a fixed order.
 *
 * With x the input and y the output of a linear, the statistics are sums over calibration tokens:
 * - `sensitivity` Σ |y||x|ᵀ, `[d_out, d_in]` row-major;
 * - `second_moment` Σ x xᵀ, the upper triangle of the symmetric `[d_in, d_in]` row by row, each from the diagonal on; the
 *   full matrix would make an artifact a third larger;
 * - `square_norm` Σ x², `[d_in]`.
 */
export function statisticTensorSizes(
  config: LlamaConfig,
  set: StatisticSet = 'all',
): ReadonlyMap<string, number> {
  const tensors = new Map<string, number>()
  for (const linear of BLOCK_LINEARS) {
    const [rows, cols] = linearShape(config, linear)
    if (set === 'all') tensors.set(statisticTensorName('sensitivity', linear), rows * cols)
    tensors.set(statisticTensorName('second_moment', linear), (cols * (cols + 1)) / 2)
    tensors.set(statisticTensorName('square_norm', linear), cols)
  }
  return tensors
}

import {
  BLOCK_LINEARS,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'

/** What is accumulated over calibration tokens; see {@link statisticTensorSizes} for shapes. */
export type StatisticName = 'sensitivity' | 'second_moment' | 'square_norm'

/** Linears of a block that read the same vector share its `second_moment` and `square_norm`. */
export const BLOCK_INPUTS = ['attention_input', 'attention_output', 'mlp_input', 'mlp_hidden'] as const
export type BlockInput = (typeof BLOCK_INPUTS)[number]

/** The vector that each linear multiplies. */
export const LINEAR_INPUT: Readonly<Record<BlockLinear, BlockInput>> = {
  'self_attn.q_proj': 'attention_input',
  'self_attn.k_proj': 'attention_input',
  'self_attn.v_proj': 'attention_input',
  'self_attn.o_proj': 'attention_output',
  'mlp.gate_proj': 'mlp_input',
  'mlp.up_proj': 'mlp_input',
  'mlp.down_proj': 'mlp_hidden',
}

/** Name of the tensor that holds a linear's statistic: `self_attn.q_proj.sensitivity`, `mlp_input.square_norm`. */
export function statisticTensorName(statistic: StatisticName, linear: BlockLinear): string {
  return `${statistic === 'sensitivity' ? linear : LINEAR_INPUT[linear]}.${statistic}`
}

/**
 * Every tensor that calibration alone makes of one block, with its number of elements, in a fixed order.
 *
 * With x the input and y the output of a linear, all sums over calibration tokens:
 * - `sensitivity` Σ |y||x|ᵀ, `[d_out, d_in]` row-major;
 * - `second_moment` Σ x xᵀ, the upper triangle of `[d_in, d_in]` row by row (diagonal first): it is symmetric,
 *   and the triangle saves a quarter of an artifact;
 * - `square_norm` Σ x², `[d_in]`.
 */
export function statisticTensorSizes(config: LlamaConfig): ReadonlyMap<string, number> {
  const tensors = new Map<string, number>()
  for (const linear of BLOCK_LINEARS) {
    const [rows, cols] = linearShape(config, linear)
    tensors.set(statisticTensorName('sensitivity', linear), rows * cols)
    tensors.set(statisticTensorName('second_moment', linear), (cols * (cols + 1)) / 2)
    tensors.set(statisticTensorName('square_norm', linear), cols)
  }
  return tensors
}

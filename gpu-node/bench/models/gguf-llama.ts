import {
  BLOCK_LINEARS,
  type BlockLinear,
  type LlamaConfig,
} from '@copal/gpu-node/model/config/llama-config.ts'
import type { GgufValue } from './gguf-writer.ts'

const LINEAR_NAMES: Readonly<Record<BlockLinear, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}

/** Returns the metadata that llama.cpp's converter writes for the shape of a LLaMA. */
export function ggufArchitecture(config: LlamaConfig): [string, GgufValue][] {
  return [
    ['general.architecture', 'llama'],
    ['llama.block_count', config.layers],
    ['llama.context_length', config.contextLength],
    ['llama.embedding_length', config.hiddenSize],
    ['llama.feed_forward_length', config.intermediateSize],
    ['llama.attention.head_count', config.heads],
    ['llama.attention.head_count_kv', config.kvHeads],
    ['llama.attention.key_length', config.headDim],
    ['llama.rope.dimension_count', config.headDim],
    ['llama.rope.freq_base', { f32: config.ropeTheta }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: config.rmsNormEps }],
  ]
}

/** Returns llama.cpp's name of a tensor with a Hugging Face name. */
export function ggufName(name: string): string {
  const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
  const linear = BLOCK_LINEARS.find((candidate) => name.endsWith(`${candidate}.weight`))
  if (linear !== undefined) return `blk.${layer}.${LINEAR_NAMES[linear]}.weight`
  if (name.endsWith('input_layernorm.weight')) return `blk.${layer}.attn_norm.weight`
  if (name.endsWith('post_attention_layernorm.weight')) return `blk.${layer}.ffn_norm.weight`
  if (name === 'model.norm.weight') return 'output_norm.weight'
  return name === 'lm_head.weight' ? 'output.weight' : 'token_embd.weight'
}

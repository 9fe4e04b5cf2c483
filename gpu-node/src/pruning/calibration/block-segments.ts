import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { addAttention, addBlockConstants, addDown, addGatedUp } from '../graph/decoder-block.ts'
import type { GraphBuilder } from '../graph/graph-builder.ts'
import type { ValueInfo } from '../graph/onnx-writer.ts'

/**
 * Returns the inputs besides the weights of the attention of a block that runs alone: `hidden` `[batch * length, hidden]`
 * f32; `attention_shape` `[3]` i64, which contains `[batch, length, -1]`; `last_position` `[batch]` i32; `total_length`
 * scalar i32; an empty past, `past_key_0` and `past_value_0` `[batch, kvHeads, 0, headDim]`.
 */
export function attentionInputs({ hiddenSize, kvHeads, headDim }: LlamaConfig): ValueInfo[] {
  const past = (name: string): ValueInfo => ({
    name,
    type: 'float32',
    shape: ['batch', kvHeads, 'past', headDim],
  })
  return [
    { name: 'hidden', type: 'float32', shape: ['rows', hiddenSize] },
    { name: 'attention_shape', type: 'int64', shape: [3] },
    { name: 'last_position', type: 'int32', shape: ['batch'] },
    { name: 'total_length', type: 'int32', shape: [] },
    past('past_key_0'),
    past('past_value_0'),
  ]
}

/** Adds `middle` = `hidden` + attention(norm(`hidden`)) of layer 0, for sequences of at most `length` tokens. */
export function addAttentionSegment(
  graph: GraphBuilder,
  config: LlamaConfig,
  length: number,
  middle: string,
): void {
  addBlockConstants(graph, config, length)
  const norm = 'model.layers.0.input_layernorm.weight'
  graph.norm('hidden', norm, config.hiddenSize, config.rmsNormEps, 'attention_in_0')
  graph.add({ op: 'Add', inputs: ['hidden', addAttention(graph, config, 0)], outputs: [middle] })
}

/** Adds `gated_0`, the input of `down_proj`, computed from the residual stream `middle`. */
export function addGateUpSegment(graph: GraphBuilder, config: LlamaConfig, middle: string): void {
  const norm = 'model.layers.0.post_attention_layernorm.weight'
  graph.norm(middle, norm, config.hiddenSize, config.rmsNormEps, 'mlp_in_0')
  addGatedUp(graph, config, 0)
}

/** Adds `next` = `middle` + `down(gated_0)`. */
export function addDownSegment(graph: GraphBuilder, config: LlamaConfig, middle: string, next: string): void {
  graph.add({ op: 'Add', inputs: [middle, addDown(graph, config, 0)], outputs: [next] })
}

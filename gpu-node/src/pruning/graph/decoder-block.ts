import {
  type BlockLinear,
  linearName,
  linearShape,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import type { GraphBuilder } from './graph-builder.ts'
import { ropeCache } from './rope.ts'

/** Returns the names of a layer's key and value inputs and outputs. */
export function keyValueNames(layer: number): {
  past: [key: string, value: string]
  present: [string, string]
} {
  return {
    past: [`past_key_${layer}`, `past_value_${layer}`],
    present: [`present_key_${layer}`, `present_value_${layer}`],
  }
}

/** Returns the name of the input of a block's linear, `[rows, d_in]`. */
export function linearInputName(layer: number, linear: BlockLinear): string {
  switch (linear) {
    case 'self_attn.q_proj':
    case 'self_attn.k_proj':
    case 'self_attn.v_proj':
      return `attention_in_${layer}`
    case 'self_attn.o_proj':
      return `flat_heads_${layer}`
    case 'mlp.gate_proj':
    case 'mlp.up_proj':
      return `mlp_in_${layer}`
    case 'mlp.down_proj':
      return `gated_${layer}`
  }
}

/** Returns the name of the output of a block's linear, `[rows, d_out]`. */
export function linearOutputName(layer: number, linear: BlockLinear): string {
  return `${linear}_${layer}`
}

/** Adds the constants that all blocks share: rotary angles of the first `positions` positions, and shapes. */
export function addBlockConstants(graph: GraphBuilder, config: LlamaConfig, positions: number): void {
  const { cos, sin } = ropeCache(config, positions)
  const ropeShape = [positions, config.headDim / 2]
  graph.constants.push(
    { name: 'cos_cache', type: 'float32', shape: ropeShape, data: cos },
    { name: 'sin_cache', type: 'float32', shape: ropeShape, data: sin },
    {
      name: 'flat_heads',
      type: 'int64',
      shape: [2],
      data: BigInt64Array.of(-1n, BigInt(config.heads * config.headDim)),
    },
  )
}

/**
 * Adds the attention of one block, which reads `attention_in_<layer>` `[rows, hidden]`.
 *
 * The graph must have `attention_shape` (`[batch, length, -1]` i64), `last_position`, `total_length`, the layer's past,
 * and the constants of {@link addBlockConstants}.
 *
 * @returns the name of the output of `o_proj`
 */
export function addAttention(graph: GraphBuilder, config: LlamaConfig, layer: number): string {
  const projections = (['q', 'k', 'v'] as const).map((part) => {
    const flat = addLinear(graph, config, layer, `self_attn.${part}_proj`)
    graph.add({ op: 'Reshape', inputs: [flat, 'attention_shape'], outputs: [`${part}_${layer}`] })
    return `${part}_${layer}`
  })
  const { past, present } = keyValueNames(layer)
  graph.add({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [...projections, ...past, 'last_position', 'total_length', 'cos_cache', 'sin_cache'],
    outputs: [`heads_${layer}`, ...present],
    attributes: {
      num_heads: { int: config.heads },
      kv_num_heads: { int: config.kvHeads },
      do_rotary: { int: 1 },
      rotary_interleaved: { int: 0 },
    },
  })
  graph.add({ op: 'Reshape', inputs: [`heads_${layer}`, 'flat_heads'], outputs: [`flat_heads_${layer}`] })
  return addLinear(graph, config, layer, 'self_attn.o_proj')
}

/** Adds `down(silu(gate(x)) * up(x))` of x = `mlp_in_<layer>`, and returns the name of the output. */
export function addMlp(graph: GraphBuilder, config: LlamaConfig, layer: number): string {
  addGatedUp(graph, config, layer)
  return addDown(graph, config, layer)
}

/** Adds `gated_<layer>` = `silu(gate(x)) * up(x)` of x = `mlp_in_<layer>`: the input of `down_proj`. */
export function addGatedUp(graph: GraphBuilder, config: LlamaConfig, layer: number): void {
  const gate = addLinear(graph, config, layer, 'mlp.gate_proj')
  const up = addLinear(graph, config, layer, 'mlp.up_proj')
  graph.add({
    op: 'QuickGelu',
    domain: 'com.microsoft',
    inputs: [gate],
    outputs: [`silu_${layer}`],
    attributes: { alpha: { float: 1 } },
  })
  graph.add({
    op: 'Mul',
    inputs: [`silu_${layer}`, up],
    outputs: [linearInputName(layer, 'mlp.down_proj')],
  })
}

/** Adds `down(gated_<layer>)`, and returns the name of the output. */
export function addDown(graph: GraphBuilder, config: LlamaConfig, layer: number): string {
  return addLinear(graph, config, layer, 'mlp.down_proj')
}

function addLinear(graph: GraphBuilder, config: LlamaConfig, layer: number, linear: BlockLinear): string {
  const y = linearOutputName(layer, linear)
  graph.linear(linearInputName(layer, linear), linearName(layer, linear), linearShape(config, linear), y)
  return y
}

import type { LlamaConfig } from '../../model/config/llama-config.ts'
import { addAttention, addBlockConstants, addMlp, keyValueNames } from './decoder-block.ts'
import { GraphBuilder, type WeightLocator } from './graph-builder.ts'
import type { OnnxGraph, ValueInfo } from './onnx-writer.ts'

/** Returns the names of the outputs with a layer's new key and value rows. */
export function newKeyValueNames(layer: number): [key: string, value: string] {
  return [`new_key_${layer}`, `v_${layer}`]
}

/**
 * Builds the graph of a whole LLaMA: embedding, decoder blocks, final norm, and the head for selected rows.
 *
 * Inputs:
 * - `tokens`, `positions` `[batch, length]` i64
 * - `last_position` `[batch]` i32, position of each sequence's last token
 * - `total_length` scalar i32, length of the longest sequence including its new tokens
 * - `past_key_i`, `past_value_i` `[batch, kvHeads, capacity, headDim]` f32; rows from the first position of
 *   `positions` on are not read
 * - `rows` `[selected]` i64, the rows of `batch · length` that need the head; may be empty
 *
 * Outputs:
 * - `logits` `[selected, vocabSize]` f32
 * - `hidden` `[batch · length, hiddenSize]` f32: every token after the final norm
 * - {@link newKeyValueNames} `[batch, length, kvHeads · headDim]` f32: the new rows, keys rotated. The owner of the cache
 *   writes them into it. The attention's own copy of past and new rows is not an output: onnxruntime-node copies every
 *   output, and copying the cache takes longer than the step.
 */
export function buildDecoder(config: LlamaConfig, locate: WeightLocator): OnnxGraph {
  const { vocabSize, hiddenSize, layers, rmsNormEps } = config
  const graph = new GraphBuilder(locate)
  addBlockConstants(graph, config, config.contextLength)
  graph.constants.push(
    { name: 'flat_hidden', type: 'int64', shape: [2], data: BigInt64Array.of(-1n, BigInt(hiddenSize)) },
    { name: 'rest', type: 'int64', shape: [1], data: BigInt64Array.of(-1n) },
  )
  graph.weight('model.embed_tokens.weight', [vocabSize, hiddenSize])
  graph.add({ op: 'Gather', inputs: ['model.embed_tokens.weight', 'tokens'], outputs: ['embedded'] })
  graph.add({ op: 'Reshape', inputs: ['embedded', 'flat_hidden'], outputs: ['stream_0'] })
  // [batch, length, -1]: attention takes three dimensions, the linears two.
  graph.add({ op: 'Shape', inputs: ['tokens'], outputs: ['tokens_shape'] })
  graph.add({
    op: 'Concat',
    inputs: ['tokens_shape', 'rest'],
    outputs: ['attention_shape'],
    attributes: { axis: { int: 0 } },
  })
  graph.norm('stream_0', 'model.layers.0.input_layernorm.weight', hiddenSize, rmsNormEps, 'attention_in_0')
  for (let layer = 0; layer < layers; layer++) {
    const attended = addAttention(graph, config, layer)
    graph.add({
      op: 'RotaryEmbedding',
      domain: 'com.microsoft',
      inputs: [`k_${layer}`, 'positions', 'cos_cache', 'sin_cache'],
      outputs: [newKeyValueNames(layer)[0]],
      attributes: { interleaved: { int: 0 } },
    })
    graph.skipNorm(
      [`stream_${layer}`, attended],
      `model.layers.${layer}.post_attention_layernorm.weight`,
      hiddenSize,
      rmsNormEps,
      [`mlp_in_${layer}`, `middle_${layer}`],
    )
    const projected = addMlp(graph, config, layer)
    const last = layer === layers - 1
    graph.skipNorm(
      [`middle_${layer}`, projected],
      last ? 'model.norm.weight' : `model.layers.${layer + 1}.input_layernorm.weight`,
      hiddenSize,
      rmsNormEps,
      [last ? 'hidden' : `attention_in_${layer + 1}`, last ? '' : `stream_${layer + 1}`],
    )
  }
  addHead(graph, config)
  return {
    name: 'decoder',
    inputs: [
      { name: 'tokens', type: 'int64', shape: ['batch', 'length'] },
      { name: 'positions', type: 'int64', shape: ['batch', 'length'] },
      { name: 'last_position', type: 'int32', shape: ['batch'] },
      { name: 'total_length', type: 'int32', shape: [] },
      { name: 'rows', type: 'int64', shape: ['selected'] },
      ...perLayer(config, (layer) => keyValueNames(layer).past, [
        'batch',
        config.kvHeads,
        'capacity',
        config.headDim,
      ]),
    ],
    outputs: [
      { name: 'logits', type: 'float32', shape: ['selected', vocabSize] },
      { name: 'hidden', type: 'float32', shape: ['all_tokens', hiddenSize] },
      ...perLayer(config, newKeyValueNames, ['batch', 'length', config.kvHeads * config.headDim]),
    ],
    initializers: graph.constants,
    nodes: graph.nodes,
  }
}

function addHead(graph: GraphBuilder, { vocabSize, hiddenSize, tiedEmbedding }: LlamaConfig): void {
  graph.add({
    op: 'Gather',
    inputs: ['hidden', 'rows'],
    outputs: ['selected'],
    attributes: { axis: { int: 0 } },
  })
  if (tiedEmbedding) {
    graph.add({
      op: 'Gemm',
      inputs: ['selected', 'model.embed_tokens.weight'],
      outputs: ['logits'],
      attributes: { transB: { int: 1 } },
    })
  } else {
    graph.linear('selected', 'lm_head.weight', [vocabSize, hiddenSize], 'logits')
  }
}

function perLayer(
  { layers }: LlamaConfig,
  names: (layer: number) => string[],
  shape: ValueInfo['shape'],
): ValueInfo[] {
  return Array.from({ length: layers }, (_, layer) =>
    names(layer).map((name): ValueInfo => ({ name, type: 'float32', shape })),
  ).flat()
}

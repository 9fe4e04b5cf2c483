import { BLOCK_LINEARS, linearShape, type LlamaConfig } from '../model/config.ts'
import { statisticTensor } from '../copal/block-statistics.ts'
import { addAttention, addBlockConstants, addMlp, linearInputName, linearOutputName } from './block.ts'
import { GraphBuilder } from './graph-builder.ts'
import type { OnnxGraph, ValueInfo } from './onnx-writer.ts'

/**
 * One decoder block with its statistics, for any block of the model: the weights are inputs, under the names
 * that they have in layer 0.
 *
 * Inputs besides the weights: `hidden` `[batch * length, hidden]` f32; `attention_shape` `[3]` i64, `[batch,
 * length, -1]`; `last_position` `[batch]` i32 and `total_length` scalar i32; an empty past,
 * `past_key_0`, `past_value_0` `[batch, kvHeads, 0, headDim]`.
 * Outputs: `next_hidden` `[batch * length, hidden]`; for each linear `<linear>.sensitivity` `|Y|ᵀ|X|`
 * `[d_out, d_in]`; for each distinct input the upper triangle of `XᵀX` in panels, `<input>.second_moment@<first>`:
 * rows `first … first + 191` of the columns from `first` on. A full product would compute everything twice.
 *
 * @param length longest sequence that it will run
 */
export function buildCalibrationBlock(config: LlamaConfig, length: number): OnnxGraph {
  const { hiddenSize, rmsNormEps, kvHeads, headDim } = config
  const graph = new GraphBuilder('inputs')
  addBlockConstants(graph, config, length)
  graph.norm('hidden', 'model.layers.0.input_layernorm.weight', hiddenSize, rmsNormEps, 'attention_in_0')
  const attended = addAttention(graph, config, 0)
  const postNorm = 'model.layers.0.post_attention_layernorm.weight'
  graph.skipNorm(['hidden', attended], postNorm, hiddenSize, rmsNormEps, ['mlp_in_0', 'middle_0'])
  const projected = addMlp(graph, config, 0)
  graph.add({ op: 'Add', inputs: ['middle_0', projected], outputs: ['next_hidden'] })

  const past = (name: string): ValueInfo => ({
    name,
    type: 'float32',
    shape: ['batch', kvHeads, 'past', headDim],
  })
  return {
    name: 'calibration_block',
    inputs: [
      { name: 'hidden', type: 'float32', shape: ['rows', hiddenSize] },
      { name: 'attention_shape', type: 'int64', shape: [3] },
      { name: 'last_position', type: 'int32', shape: ['batch'] },
      { name: 'total_length', type: 'int32', shape: [] },
      past('past_key_0'),
      past('past_value_0'),
      ...graph.weightInputs,
    ],
    outputs: [
      { name: 'next_hidden', type: 'float32', shape: ['rows', hiddenSize] },
      ...addStatistics(graph, config),
    ],
    initializers: graph.constants,
    nodes: graph.nodes,
  }
}

/** Rows of a second moment that one output brings: few enough to skip most of the lower triangle, enough for full GEMM speed. */
const PANEL_ROWS = 192

function addStatistics(graph: GraphBuilder, config: LlamaConfig): ValueInfo[] {
  const outputs: ValueInfo[] = []
  const seen = new Set<string>()
  for (const linear of BLOCK_LINEARS) {
    const [rows, cols] = linearShape(config, linear)
    const x = linearInputName(0, linear)
    const y = linearOutputName(0, linear)
    if (!seen.has(x)) {
      seen.add(x)
      graph.add({ op: 'Abs', inputs: [x], outputs: [`abs_${x}`] })
      outputs.push(...addSecondMoment(graph, x, cols, statisticTensor('second_moment', linear)))
    }
    graph.add({ op: 'Abs', inputs: [y], outputs: [`abs_${y}`] })
    const sensitivity = statisticTensor('sensitivity', linear)
    addGram(graph, `abs_${y}`, `abs_${x}`, sensitivity)
    outputs.push({ name: sensitivity, type: 'float32', shape: [rows, cols] })
  }
  return outputs
}

function addSecondMoment(graph: GraphBuilder, x: string, cols: number, moment: string): ValueInfo[] {
  const outputs: ValueInfo[] = []
  for (let first = 0; first < cols; first += PANEL_ROWS) {
    const end = Math.min(first + PANEL_ROWS, cols)
    const rest = first === 0 ? x : addColumns(graph, x, first, cols)
    const panel = end === cols ? rest : addColumns(graph, x, first, end)
    const name = `${moment}@${first}`
    addGram(graph, panel, rest, name)
    outputs.push({ name, type: 'float32', shape: [end - first, cols - first] })
  }
  return outputs
}

/** Columns `begin … end - 1` of `x`. */
function addColumns(graph: GraphBuilder, x: string, begin: number, end: number): string {
  const name = `${x}_${begin}_${end}`
  graph.constants.push(
    { name: `${name}_axis`, type: 'int64', shape: [1], data: BigInt64Array.of(1n) },
    { name: `${name}_begin`, type: 'int64', shape: [1], data: BigInt64Array.of(BigInt(begin)) },
    { name: `${name}_end`, type: 'int64', shape: [1], data: BigInt64Array.of(BigInt(end)) },
  )
  graph.add({ op: 'Slice', inputs: [x, `${name}_begin`, `${name}_end`, `${name}_axis`], outputs: [name] })
  return name
}

/** `aᵀ b`, summed over rows (tokens). */
function addGram(graph: GraphBuilder, a: string, b: string, output: string): void {
  graph.add({ op: 'Gemm', inputs: [a, b], outputs: [output], attributes: { transA: { int: 1 } } })
}

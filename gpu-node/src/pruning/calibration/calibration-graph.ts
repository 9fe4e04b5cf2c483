import { statisticTensorName } from '../statistics/statistic-names.ts'
import { linearShape, type BlockLinear, type LlamaConfig } from '../../model/config/llama-config.ts'
import { linearInputName, linearOutputName } from '../graph/decoder-block.ts'
import { addAttentionSegment, addDownSegment, addGateUpSegment, attentionInputs } from './block-segments.ts'
import { GraphBuilder } from '../graph/graph-builder.ts'
import type { OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'
import { addAccumulatingGemm, addTranspose, sumInputName } from './sum-graph.ts'

/**
 * A decoder block in three graphs that run one after another. onnxruntime-node copies every output, so a run
 * takes the memory of its statistics twice: of a third of a block's that is little.
 */
export const BLOCK_SEGMENTS = ['attention', 'gate_up', 'down'] as const
export type BlockSegment = (typeof BLOCK_SEGMENTS)[number]

/** The linears of each segment, in forward order. */
export const SEGMENT_LINEARS: Readonly<Record<BlockSegment, readonly BlockLinear[]>> = {
  attention: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'],
  gate_up: ['mlp.gate_proj', 'mlp.up_proj'],
  down: ['mlp.down_proj'],
}

/** What each segment makes for the next: residual stream, input of `down_proj`, stream that leaves the block. */
export const SEGMENT_OUTPUT: Readonly<Record<BlockSegment, string>> = {
  attention: 'middle_0',
  gate_up: linearInputName(0, 'mlp.down_proj'),
  down: 'next_hidden',
}

/** Rows `first … end - 1` of a second moment, with its columns from `first` on: `[end - first, cols - first]`. */
export interface MomentPanel {
  first: number
  end: number
}

/** Most panels of a second moment; each costs a copy of the columns from its first on. */
const MAX_PANELS = 16
/** Fewest rows of a panel: fewer are below full GEMM speed. */
const MIN_PANEL_ROWS = 192

/**
 * How the upper triangle of a second moment `[cols, cols]` is cut into products of full width: more panels skip
 * more of the lower triangle, higher ones copy less and run faster.
 */
export function momentPanels(cols: number): MomentPanel[] {
  const rows = Math.max(MIN_PANEL_ROWS, Math.ceil(cols / MAX_PANELS))
  const panels: MomentPanel[] = []
  for (let first = 0; first < cols; first += rows) panels.push({ first, end: Math.min(first + rows, cols) })
  return panels
}

/** Name of the graph output of one panel. */
export function panelName(moment: string, { first }: MomentPanel): string {
  return `${moment}@${first}`
}

/**
 * One segment of a decoder block with its statistics, for any block of the model: the weights are inputs, under
 * the names that they have in layer 0.
 *
 * Inputs besides the weights: for `attention` those of {@link attentionInputs}, for `gate_up` `middle_0`
 * `[rows, hidden]`, for `down` `middle_0` and `gated_0` `[rows, intermediate]`, rows = batch · length; and for
 * each statistics output its sum so far, {@link sumInputName}. The sum may lie where the output is put: Gemm
 * copies it there first.
 * Outputs: {@link SEGMENT_OUTPUT}; for each linear `<linear>.sensitivity` `|Y|ᵀ|X|` `[d_out, d_in]`; for each
 * distinct input the {@link momentPanels} of `XᵀX`, `<input>.second_moment@<first>`; all added to the sums.
 *
 * @param length longest sequence that it will run
 */
export function buildCalibrationSegment(
  config: LlamaConfig,
  length: number,
  segment: BlockSegment,
): OnnxGraph {
  const graph = new GraphBuilder('inputs')
  const inputs = segmentForward(graph, config, length, segment)
  const statistics = addStatistics(graph, config, SEGMENT_LINEARS[segment])
  const width = segment === 'gate_up' ? config.intermediateSize : config.hiddenSize
  return {
    name: `calibration_${segment}`,
    inputs: [
      ...inputs,
      ...graph.weightInputs,
      ...statistics.map((output) => ({ ...output, name: sumInputName(output.name) })),
    ],
    outputs: [{ name: SEGMENT_OUTPUT[segment], type: 'float32', shape: ['rows', width] }, ...statistics],
    initializers: graph.constants,
    nodes: graph.nodes,
  }
}

function segmentForward(
  graph: GraphBuilder,
  config: LlamaConfig,
  length: number,
  segment: BlockSegment,
): ValueInfo[] {
  const { hiddenSize, intermediateSize } = config
  const middle: ValueInfo = { name: SEGMENT_OUTPUT.attention, type: 'float32', shape: ['rows', hiddenSize] }
  switch (segment) {
    case 'attention':
      addAttentionSegment(graph, config, length, middle.name)
      return attentionInputs(config)
    case 'gate_up':
      addGateUpSegment(graph, config, middle.name)
      return [middle]
    case 'down':
      addDownSegment(graph, config, middle.name, SEGMENT_OUTPUT.down)
      return [middle, { name: SEGMENT_OUTPUT.gate_up, type: 'float32', shape: ['rows', intermediateSize] }]
  }
}

/** One decoder block without statistics: inputs and `next_hidden` as the segments have them. */
export function buildForwardBlock(config: LlamaConfig, length: number): OnnxGraph {
  const graph = new GraphBuilder('inputs')
  addAttentionSegment(graph, config, length, SEGMENT_OUTPUT.attention)
  addGateUpSegment(graph, config, SEGMENT_OUTPUT.attention)
  addDownSegment(graph, config, SEGMENT_OUTPUT.attention, SEGMENT_OUTPUT.down)
  return {
    name: 'forward_block',
    inputs: [...attentionInputs(config), ...graph.weightInputs],
    outputs: [{ name: SEGMENT_OUTPUT.down, type: 'float32', shape: ['rows', config.hiddenSize] }],
    initializers: graph.constants,
    nodes: graph.nodes,
  }
}

function addStatistics(
  graph: GraphBuilder,
  config: LlamaConfig,
  linears: readonly BlockLinear[],
): ValueInfo[] {
  const outputs: ValueInfo[] = []
  const seen = new Set<string>()
  for (const linear of linears) {
    const [rows, cols] = linearShape(config, linear)
    const x = linearInputName(0, linear)
    const y = linearOutputName(0, linear)
    if (!seen.has(x)) {
      seen.add(x)
      graph.add({ op: 'Abs', inputs: [x], outputs: [`abs_${x}`] })
      outputs.push(...addSecondMoment(graph, x, cols, statisticTensorName('second_moment', linear)))
    }
    // Transposing once is cheaper than Gemm's transA, which does it again for every stripe of columns.
    const columns = addTranspose(graph, y)
    graph.add({ op: 'Abs', inputs: [columns], outputs: [`abs_${columns}`] })
    const sensitivity = statisticTensorName('sensitivity', linear)
    addAccumulatingGemm(graph, `abs_${columns}`, `abs_${x}`, sensitivity, false)
    outputs.push({ name: sensitivity, type: 'float32', shape: [rows, cols] })
  }
  return outputs
}

function addSecondMoment(graph: GraphBuilder, x: string, cols: number, moment: string): ValueInfo[] {
  const columns = addTranspose(graph, x)
  return momentPanels(cols).map((panel): ValueInfo => {
    const { first, end } = panel
    const rest = first === 0 ? columns : addRows(graph, columns, first, cols)
    const left = end === cols ? rest : addRows(graph, columns, first, end)
    const name = panelName(moment, panel)
    addAccumulatingGemm(graph, left, rest, name, true)
    return { name, type: 'float32', shape: [end - first, cols - first] }
  })
}

/** Rows `begin … end - 1` of `x`. */
function addRows(graph: GraphBuilder, x: string, begin: number, end: number): string {
  const name = `${x}_${begin}_${end}`
  graph.constants.push(
    { name: `${name}_axis`, type: 'int64', shape: [1], data: BigInt64Array.of(0n) },
    { name: `${name}_begin`, type: 'int64', shape: [1], data: BigInt64Array.of(BigInt(begin)) },
    { name: `${name}_end`, type: 'int64', shape: [1], data: BigInt64Array.of(BigInt(end)) },
  )
  graph.add({ op: 'Slice', inputs: [x, `${name}_begin`, `${name}_end`, `${name}_axis`], outputs: [name] })
  return name
}

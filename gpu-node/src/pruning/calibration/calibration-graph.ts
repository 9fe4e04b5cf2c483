import { statisticTensorName, type StatisticSet } from '../statistics/statistic-names.ts'
import { linearShape, type BlockLinear, type LlamaConfig } from '../../model/config/llama-config.ts'
import { linearInputName, linearOutputName } from '../graph/decoder-block.ts'
import { addAttentionSegment, addDownSegment, addGateUpSegment, attentionInputs } from './block-segments.ts'
import { GraphBuilder } from '../graph/graph-builder.ts'
import type { OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'
import { addAccumulatingGemm, addTranspose, sumInputName } from './sum-graph.ts'

/**
 * The segments of a decoder block, which run one after another, each as a graph. onnxruntime-node copies every output, so a
 * run needs the memory of its statistics twice. That is less for a third of a block.
 */
export const BLOCK_SEGMENTS = ['attention', 'gate_up', 'down'] as const
export type BlockSegment = (typeof BLOCK_SEGMENTS)[number]

/** The linears of each segment, in forward order. */
export const SEGMENT_LINEARS: Readonly<Record<BlockSegment, readonly BlockLinear[]>> = {
  attention: ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'self_attn.o_proj'],
  gate_up: ['mlp.gate_proj', 'mlp.up_proj'],
  down: ['mlp.down_proj'],
}

/** The output of each segment: the residual stream, the input of `down_proj`, and the output of the block. */
export const SEGMENT_OUTPUT: Readonly<Record<BlockSegment, string>> = {
  attention: 'middle_0',
  gate_up: linearInputName(0, 'mlp.down_proj'),
  down: 'next_hidden',
}

/** Rows `first … end - 1` of a second moment, with the columns from `first` on: `[end - first, cols - first]`. */
export interface MomentPanel {
  first: number
  end: number
}

/** Maximum panels of a second moment. Each needs a copy of the columns from its first on. */
const MAX_PANELS = 16
/** Minimum rows of a panel. GEMM is slower with fewer. */
const MIN_PANEL_ROWS = 192

/**
 * Divides the upper triangle of a second moment `[cols, cols]` into panels, each computed by one product. More panels skip
 * more of the lower triangle; fewer panels copy less and run faster.
 */
export function momentPanels(cols: number): MomentPanel[] {
  const rows = Math.max(MIN_PANEL_ROWS, Math.ceil(cols / MAX_PANELS))
  const panels: MomentPanel[] = []
  for (let first = 0; first < cols; first += rows) panels.push({ first, end: Math.min(first + rows, cols) })
  return panels
}

/** Returns the name of the graph output of one panel. */
export function panelName(moment: string, { first }: MomentPanel): string {
  return `${moment}@${first}`
}

/**
 * Builds the graph of one segment of a decoder block with its statistics. It serves every block of the model: the weights are
 * inputs, under their names in layer 0.
 *
 * Inputs besides the weights: for `attention` those of {@link attentionInputs}, for `gate_up` `middle_0` `[rows, hidden]`,
 * for `down` `middle_0` and `gated_0` `[rows, intermediate]`, with rows = batch · length; and for each statistics output the
 * sum so far, {@link sumInputName}. That input and the output may share memory: Gemm copies the input there first.
 *
 * Outputs: {@link SEGMENT_OUTPUT}; for each linear `<linear>.sensitivity` `|Y|ᵀ|X|` `[d_out, d_in]`; for each distinct input
 * the {@link momentPanels} of `XᵀX`, `<input>.second_moment@<first>`; statistics are added to the sums so far.
 *
 * @param length maximum tokens of a sequence
 * @param set without sensitivities for `moments`; the second moments are computed by the same operators then
 */
export function buildCalibrationSegment(
  config: LlamaConfig,
  length: number,
  segment: BlockSegment,
  set: StatisticSet = 'all',
): OnnxGraph {
  const graph = new GraphBuilder('inputs')
  const inputs = segmentForward(graph, config, length, segment)
  const statistics = addStatistics(graph, config, SEGMENT_LINEARS[segment], set)
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

/** Builds the graph of one decoder block without statistics, with the inputs of the `attention` segment and `next_hidden`. */
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
  set: StatisticSet,
): ValueInfo[] {
  const outputs: ValueInfo[] = []
  const seen = new Set<string>()
  for (const linear of linears) {
    const [rows, cols] = linearShape(config, linear)
    const x = linearInputName(0, linear)
    const y = linearOutputName(0, linear)
    if (!seen.has(x)) {
      seen.add(x)
      if (set === 'all') graph.add({ op: 'Abs', inputs: [x], outputs: [`abs_${x}`] })
      outputs.push(...addSecondMoment(graph, x, cols, statisticTensorName('second_moment', linear)))
    }
    if (set !== 'all') continue
    // Transposing once takes less time than Gemm's transA, which transposes again for every stripe of columns.
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

/** Adds a slice with rows `begin … end - 1` of `x`, and returns its name. */
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

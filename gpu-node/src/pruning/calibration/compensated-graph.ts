import { linearShape, type BlockLinear, type LlamaConfig } from '../../model/config/llama-config.ts'
import { linearInputName, linearOutputName } from '../graph/decoder-block.ts'
import { buildForwardBlock, SEGMENT_OUTPUT } from './calibration-graph.ts'
import { GraphBuilder } from '../graph/graph-builder.ts'
import type { OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'
import { addSum, addTranspose, sumInputName } from './sum-graph.ts'

/**
 * What some linears of a decoder block read and make ({@link tracedNames}), and nothing that this does not need: the graph of
 * {@link buildForwardBlock}, cut. What lies behind attention starts from the residual stream there, `middle_0`, not from
 * `hidden`.
 *
 * @param linears that read the same vector
 */
export function buildTracedLinears(
  config: LlamaConfig,
  length: number,
  linears: readonly BlockLinear[],
): OnnxGraph {
  const outputs = new Map<string, ValueInfo>()
  for (const linear of linears) {
    const [rows, cols] = linearShape(config, linear)
    const { input, output } = tracedNames(linear)
    outputs.set(input, { name: input, type: 'float32', shape: ['rows', cols] })
    outputs.set(output, { name: output, type: 'float32', shape: ['rows', rows] })
  }
  const middle: ValueInfo = { name: MIDDLE, type: 'float32', shape: ['rows', config.hiddenSize] }
  const given = outputs.has(MIDDLE) ? [] : [middle]
  return {
    ...cutGraph(buildForwardBlock(config, length), given, [...outputs.values()]),
    name: 'traced_linears',
  }
}

const MIDDLE = SEGMENT_OUTPUT.attention

/** The nodes that make `outputs` where `given` are inputs, with the inputs and initializers that they read. */
function cutGraph(
  graph: OnnxGraph,
  given: readonly ValueInfo[],
  outputs: readonly ValueInfo[],
): Omit<OnnxGraph, 'name'> {
  const inputs = [...graph.inputs, ...given]
  const known = new Set(given.map(({ name }) => name))
  const needed = new Set(outputs.map(({ name }) => name))
  const kept = graph.nodes.toReversed().filter((node) => {
    const isNeeded = node.outputs.some((name) => needed.has(name) && !known.has(name))
    if (isNeeded) for (const name of node.inputs) needed.add(name)
    return isNeeded
  })
  return {
    inputs: inputs.filter(({ name }) => needed.has(name)),
    outputs,
    initializers: graph.initializers.filter(({ name }) => needed.has(name)),
    nodes: kept.toReversed(),
  }
}

/** What a linear of {@link buildTracedLinears} reads, and what it makes: where it adds to the residual stream, the stream after it. */
export function tracedNames(linear: BlockLinear): { input: string; output: string } {
  const input = linearInputName(0, linear)
  switch (linear) {
    case 'self_attn.o_proj':
      return { input, output: SEGMENT_OUTPUT.attention }
    case 'mlp.down_proj':
      return { input, output: SEGMENT_OUTPUT.down }
    default:
      return { input, output: linearOutputName(0, linear) }
  }
}

/**
 * Adds to the statistics of a linear what some tokens bring, any linear of any model. Inputs: `target` T and `output` Y,
 * `[tokens, d_out]`, `input` X `[tokens, d_in]`, and the sums so far, {@link sumInputName}. Outputs: `deviation` + `(T − Y)ᵀ X`
 * and `sensitivity` + `|Y|ᵀ|X|`, `[d_out, d_in]`, `deviation_norm` + Σ (T − Y)² `[d_out]`.
 */
export function buildLinearSums(): OnnxGraph {
  const graph = new GraphBuilder('inputs')
  graph.add({ op: 'Sub', inputs: ['target', 'output'], outputs: ['missing'] })
  addSum(graph, addTranspose(graph, 'missing'), 'input', 'deviation', false)
  for (const name of ['output', 'input']) graph.add({ op: 'Abs', inputs: [name], outputs: [`abs_${name}`] })
  addSum(graph, addTranspose(graph, 'abs_output'), 'abs_input', 'sensitivity', false)
  graph.add({ op: 'Mul', inputs: ['missing', 'missing'], outputs: ['squares'] })
  graph.constants.push({ name: 'token_axis', type: 'int64', shape: [1], data: BigInt64Array.of(0n) })
  graph.add({
    op: 'ReduceSum',
    inputs: ['squares', 'token_axis'],
    outputs: ['square_sum'],
    attributes: { keepdims: { int: 0 } },
  })
  graph.add({
    op: 'Add',
    inputs: ['square_sum', sumInputName('deviation_norm')],
    outputs: ['deviation_norm'],
  })
  return sumGraph(
    graph,
    'linear_sums',
    [
      { name: 'target', type: 'float32', shape: ['tokens', 'd_out'] },
      { name: 'output', type: 'float32', shape: ['tokens', 'd_out'] },
      { name: 'input', type: 'float32', shape: ['tokens', 'd_in'] },
    ],
    [
      { name: 'deviation', type: 'float32', shape: ['d_out', 'd_in'] },
      { name: 'sensitivity', type: 'float32', shape: ['d_out', 'd_in'] },
      { name: 'deviation_norm', type: 'float32', shape: ['d_out'] },
    ],
  )
}

/** Adds `XᵀX` of `input` X `[tokens, d_in]` to `moment` `[d_in, d_in]`, as {@link buildLinearSums} does. */
export function buildMomentSum(): OnnxGraph {
  const graph = new GraphBuilder('inputs')
  addSum(graph, addTranspose(graph, 'input'), 'input', 'moment', false)
  return sumGraph(
    graph,
    'moment_sum',
    [{ name: 'input', type: 'float32', shape: ['tokens', 'd_in'] }],
    [{ name: 'moment', type: 'float32', shape: ['d_in', 'd_in'] }],
  )
}

function sumGraph(graph: GraphBuilder, name: string, inputs: ValueInfo[], sums: ValueInfo[]): OnnxGraph {
  return {
    name,
    inputs: [...inputs, ...sums.map((sum) => ({ ...sum, name: sumInputName(sum.name) }))],
    outputs: sums,
    initializers: graph.constants,
    nodes: graph.nodes,
  }
}

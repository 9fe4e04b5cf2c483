import type { GraphBuilder } from '../graph/graph-builder.ts'

/** Name of the graph input that brings the sum so far of a statistics output. */
export function sumInputName(output: string): string {
  return `${output}@before`
}

/** `x` `[tokens, columns]` as `[columns, tokens]`. */
export function addTranspose(graph: GraphBuilder, x: string): string {
  const name = `${x}_columns`
  graph.add({ op: 'Transpose', inputs: [x], outputs: [name], attributes: { perm: { ints: [1, 0] } } })
  return name
}

/** `a b`, or `a bᵀ`, added to the sum so far: a sum over tokens, the columns of `a`. */
export function addAccumulatingGemm(
  graph: GraphBuilder,
  a: string,
  b: string,
  output: string,
  transposed: boolean,
): void {
  graph.add({
    op: 'Gemm',
    inputs: [a, b, sumInputName(output)],
    outputs: [output],
    attributes: { transB: { int: transposed ? 1 : 0 } },
  })
}

import type { GraphBuilder } from '../graph/graph-builder.ts'

/** Returns the name of the graph input that holds an output's sum so far. */
export function sumInputName(output: string): string {
  return `${output}@before`
}

/** Adds the transpose of `x` `[tokens, columns]`, and returns its name. */
export function addTranspose(graph: GraphBuilder, x: string): string {
  const name = `${x}_columns`
  graph.add({ op: 'Transpose', inputs: [x], outputs: [name], attributes: { perm: { ints: [1, 0] } } })
  return name
}

/** Adds a node that computes `output`: the sum so far plus `a b`, or plus `a bᵀ` if `transposed`. The columns of `a` are tokens. */
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

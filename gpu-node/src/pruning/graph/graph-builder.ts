import type { ExternalData, GraphNode, Initializer, ValueInfo } from './onnx-writer.ts'

/** Returns the location of the f32 values of the tensor called `name`. */
export type WeightLocator = (name: string) => ExternalData

/** Collects nodes, initializers and inputs in the order in which they are added. */
export class GraphBuilder {
  readonly nodes: GraphNode[] = []
  readonly constants: Initializer[] = []
  /** The weights, if they are inputs of the graph. */
  readonly weightInputs: ValueInfo[] = []
  readonly #locate: WeightLocator | 'inputs'

  /** @param locate locations of the weights, or `inputs` to make the weights inputs of the graph, under their names */
  constructor(locate: WeightLocator | 'inputs') {
    this.#locate = locate
  }

  add(node: GraphNode): void {
    this.nodes.push(node)
  }

  /** Declares a weight as an input or as an initializer. */
  weight(name: string, shape: readonly number[]): void {
    if (this.#locate === 'inputs') this.weightInputs.push({ name, type: 'float32', shape })
    else this.constants.push({ name, type: 'float32', shape, external: this.#locate(name) })
  }

  /** Adds `y = x Wᵀ` with `x` `[rows, d_in]` and `W` `[d_out, d_in]`. */
  linear(x: string, weight: string, shape: readonly [number, number], y: string): void {
    this.weight(weight, shape)
    this.add({ op: 'Gemm', inputs: [x, weight], outputs: [y], attributes: { transB: { int: 1 } } })
  }

  /** Adds `y`, the RMS norm of the rows of `x` `[rows, size]` with the weights `gamma`. */
  norm(x: string, gamma: string, size: number, epsilon: number, y: string): void {
    this.weight(gamma, [size])
    this.add({
      op: 'SimplifiedLayerNormalization',
      inputs: [x, gamma],
      outputs: [y],
      attributes: { epsilon: { float: epsilon }, axis: { int: -1 }, stash_type: { int: 1 } },
    })
  }

  /** Adds `sum = a + b` and `y = norm(sum)`. With an empty name `sum` is not an output. */
  skipNorm(
    [a, b]: readonly [string, string],
    gamma: string,
    size: number,
    epsilon: number,
    [y, sum]: readonly [string, string],
  ): void {
    this.weight(gamma, [size])
    this.add({
      op: 'SkipSimplifiedLayerNormalization',
      domain: 'com.microsoft',
      inputs: [a, b, gamma],
      outputs: sum === '' ? [y] : [y, '', '', sum],
      attributes: { epsilon: { float: epsilon } },
    })
  }
}

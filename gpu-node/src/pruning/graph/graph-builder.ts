import type { ExternalData, GraphNode, Initializer, ValueInfo } from './onnx-writer.ts'

/** Where the f32 values of the tensor called `name` lie. */
export type WeightLocator = (name: string) => ExternalData

/** Collects nodes, initializers and inputs in the order in which they are made. */
export class GraphBuilder {
  readonly nodes: GraphNode[] = []
  readonly constants: Initializer[] = []
  /** The weights, where they are inputs. */
  readonly weightInputs: ValueInfo[] = []
  readonly #locate: WeightLocator | 'inputs'

  /** @param locate where weights lie, or `inputs`: then they are inputs of the graph, by their names */
  constructor(locate: WeightLocator | 'inputs') {
    this.#locate = locate
  }

  add(node: GraphNode): void {
    this.nodes.push(node)
  }

  weight(name: string, shape: readonly number[]): void {
    if (this.#locate === 'inputs') this.weightInputs.push({ name, type: 'float32', shape })
    else this.constants.push({ name, type: 'float32', shape, external: this.#locate(name) })
  }

  /** `y = x Wᵀ` with `x` `[rows, d_in]` and `W` `[d_out, d_in]`. */
  linear(x: string, weight: string, shape: readonly [number, number], y: string): void {
    this.weight(weight, shape)
    this.add({ op: 'Gemm', inputs: [x, weight], outputs: [y], attributes: { transB: { int: 1 } } })
  }

  norm(x: string, gamma: string, size: number, epsilon: number, y: string): void {
    this.weight(gamma, [size])
    this.add({
      op: 'SimplifiedLayerNormalization',
      inputs: [x, gamma],
      outputs: [y],
      attributes: { epsilon: { float: epsilon }, axis: { int: -1 }, stash_type: { int: 1 } },
    })
  }

  /** `sum = a + b`, `y = norm(sum)`; an empty name leaves `sum` out. */
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

import type { GraphNode, OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'

/**
 * Builds the graph of `y = H eᵀ` in f64, for any number of rows and columns.
 *
 * Inputs: `moment` H `[cols, cols]`, symmetric; `e` `[rows, cols]`. Output: `y` `[cols, rows]`, the transpose of `e H`.
 *
 * ONNX Runtime divides the longer side of a product among its threads. While that is `cols`, each element is summed in
 * the same order as on one thread. Dividing `rows` would change the order.
 */
export function buildMomentProduct(): OnnxGraph {
  return {
    name: 'product',
    inputs: [
      { name: 'moment', type: 'float64', shape: ['cols', 'cols'] },
      { name: 'e', type: 'float64', shape: ['rows', 'cols'] },
    ],
    outputs: [{ name: 'y', type: 'float64', shape: ['cols', 'rows'] }],
    initializers: [],
    nodes: [{ op: 'Gemm', inputs: ['moment', 'e'], outputs: ['y'], attributes: { transB: { int: 1 } } }],
  }
}

/**
 * Builds the graph of `steps` iterations of conjugate gradients (Hestenes and Stiefel 1952) in f32, for any number of
 * rows and columns.
 *
 * Row r solves `A_KK x_K = b_K`, where K are the columns whose `mask` is 1; elsewhere all values stay 0. All systems
 * share `A`, so an iteration is one GEMM for all rows. The matrices are transposed, for the reason given at
 * {@link buildMomentProduct}.
 *
 * Inputs: `a` `[cols, cols]`, symmetric; `mask` `[cols, rows]` of 0 and 1; and the state: the solution so far `x`, its
 * residual `r` and the search direction `p`, `[cols, rows]` each, and `rr` `[1, rows]`, the square norm of `r`.
 * Outputs: the new state, each name with the prefix `next_`. At the start `x` is 0, and `r` and `p` are `b`, whose norm
 * is 1 or 0 in each row.
 */
export function buildConjugateGradients(steps: number): OnnxGraph {
  const matrix = (name: string): ValueInfo => ({ name, type: 'float32', shape: ['cols', 'rows'] })
  const perRow = (name: string): ValueInfo => ({ name, type: 'float32', shape: [1, 'rows'] })
  const nodes: GraphNode[] = []
  const add = (op: string, inputs: readonly string[], output: string): string => {
    nodes.push({ op, inputs, outputs: [output] })
    return output
  }
  let [x, r, p, rr] = ['x', 'r', 'p', 'rr']
  for (let step = 0; step < steps; step++) {
    const name = (value: string) => (step === steps - 1 ? `next_${value}` : `${value}_${step}`)
    const product = add('MatMul', ['a', p], `product_${step}`)
    const curvature = add(
      'ReduceSum',
      [add('Mul', [p, product], `p_product_${step}`), 'row_axis'],
      `curvature_${step}`,
    )
    // A solved row has a zero residual and direction: its alpha is 0 / tiny = 0.
    const alpha = add('Div', [rr, add('Max', [curvature, 'tiny'], `safe_curvature_${step}`)], `alpha_${step}`)
    x = add('Add', [x, add('Mul', [alpha, p], `x_change_${step}`)], name('x'))
    const change = add(
      'Mul',
      [add('Mul', [alpha, product], `r_change_${step}`), 'mask'],
      `masked_change_${step}`,
    )
    r = add('Sub', [r, change], name('r'))
    const previousNorm = rr
    rr = add('ReduceSumSquare', [r, 'row_axis'], name('rr'))
    const beta = add('Div', [rr, add('Max', [previousNorm, 'tiny'], `safe_norm_${step}`)], `beta_${step}`)
    p = add('Add', [r, add('Mul', [beta, p], `p_kept_${step}`)], name('p'))
  }
  return {
    name: 'conjugate_gradients',
    inputs: [
      { name: 'a', type: 'float32', shape: ['cols', 'cols'] },
      matrix('mask'),
      ...['x', 'r', 'p'].map(matrix),
      perRow('rr'),
    ],
    outputs: [...['next_x', 'next_r', 'next_p'].map(matrix), perRow('next_rr')],
    initializers: [
      { name: 'row_axis', type: 'int64', shape: [1], data: BigInt64Array.of(0n) },
      // Square norms start at 1. This is far below any that f32 residuals reach, and far above underflow.
      { name: 'tiny', type: 'float32', shape: [1, 1], data: Float32Array.of(1e-30) },
    ],
    nodes,
  }
}

import type { GraphNode, OnnxGraph, ValueInfo } from '../graph/onnx-writer.ts'

/**
 * `y = H eᵀ` in f64: `moment` H `[cols, cols]`, symmetric; `e` `[rows, cols]`; `y` `[cols, rows]`, which is `e H`
 * transposed. For any rows and cols.
 *
 * ONNX Runtime's threads share the longer side of a product. While that is `cols`, each element is summed as a
 * single thread sums it; sharing `rows` changes the order.
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
 * `steps` iterations of conjugate gradients (Hestenes and Stiefel 1952) in f32 on many systems at once, for any
 * rows and cols: row r solves `A_KK x_K = b_K`, K where its `mask` is 1; elsewhere everything stays 0. All
 * systems share `A`, so an iteration is one GEMM. Rows are columns here, for the reason that {@link buildMomentProduct}
 * has.
 *
 * Inputs: `a` `[cols, cols]`, symmetric; `mask` `[cols, rows]` of 0 and 1; and the state, which is also the
 * output, by the same names with `next_` before them: `x` the solution so far, `r` its residual, `p` the
 * direction, `[cols, rows]`, and `rr` `[1, rows]` the square norm of `r`. To begin, `x` is 0 and `r` and `p` are
 * `b`, of norm 1 or 0 in each row.
 */
export function buildConjugateGradients(steps: number): OnnxGraph {
  const matrix = (name: string): ValueInfo => ({ name, type: 'float32', shape: ['cols', 'rows'] })
  const line = (name: string): ValueInfo => ({ name, type: 'float32', shape: [1, 'rows'] })
  const nodes: GraphNode[] = []
  const add = (op: string, inputs: readonly string[], output: string): string => {
    nodes.push({ op, inputs, outputs: [output] })
    return output
  }
  let [x, r, p, rr] = ['x', 'r', 'p', 'rr']
  for (let step = 0; step < steps; step++) {
    const name = (value: string) => (step === steps - 1 ? `next_${value}` : `${value}_${step}`)
    const product = add('MatMul', ['a', p], `product_${step}`)
    const curvature = add('ReduceSum', [add('Mul', [p, product], `bent_${step}`), 'down'], `bend_${step}`)
    // A row that is solved has neither residual nor direction: 0 / tiny.
    const length = add('Div', [rr, add('Max', [curvature, 'tiny'], `curvature_${step}`)], `length_${step}`)
    x = add('Add', [x, add('Mul', [length, p], `move_${step}`)], name('x'))
    const change = add('Mul', [add('Mul', [length, product], `change_${step}`), 'mask'], `masked_${step}`)
    r = add('Sub', [r, change], name('r'))
    const before = rr
    rr = add('ReduceSumSquare', [r, 'down'], name('rr'))
    const turn = add('Div', [rr, add('Max', [before, 'tiny'], `before_${step}`)], `turn_${step}`)
    p = add('Add', [r, add('Mul', [turn, p], `kept_${step}`)], name('p'))
  }
  return {
    name: 'conjugate_gradients',
    inputs: [
      { name: 'a', type: 'float32', shape: ['cols', 'cols'] },
      matrix('mask'),
      ...['x', 'r', 'p'].map(matrix),
      line('rr'),
    ],
    outputs: [...['next_x', 'next_r', 'next_p'].map(matrix), line('next_rr')],
    initializers: [
      { name: 'down', type: 'int64', shape: [1], data: BigInt64Array.of(0n) },
      // Square norms start at 1: this is far below what f32 residuals reach, and far from its underflow.
      { name: 'tiny', type: 'float32', shape: [1, 1], data: Float32Array.of(1e-30) },
    ],
    nodes,
  }
}

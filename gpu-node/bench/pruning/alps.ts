import { countBits, countDifferingBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { MaskScope, SparsityPattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { backgroundSession } from '@copal/gpu-node/pruning/refinement/moment-product.ts'
import { unfoldTriangle } from '@copal/gpu-node/pruning/statistics/packed-triangle.ts'
import { DAMPING } from '@copal/gpu-node/pruning/refinement/reconstruct-rows.ts'
import { selectKept } from '@copal/gpu-node/pruning/methods/select-kept.ts'
import { encodeModel, type OnnxGraph } from '@copal/gpu-node/pruning/graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '@copal/gpu-node/pruning/graph/onnx-runtime.ts'

/** The penalty ρ that ADMM begins with, for an H of unit diagonal. */
const FIRST_PENALTY = 0.1
/** Iterations between two looks at the support. */
const LOOK_EVERY = 3
const MAX_ITERATIONS = 300
/** From this iteration on a change of the support by less than {@link SETTLED} of the kept weights ends it. */
const MAY_SETTLE = 30
const SETTLED = 3e-4
/** What ρ is multiplied by when the support changed by more than a share of the kept weights. */
const GROWTH = [
  { above: 0.1, factor: 1.3 },
  { above: 0.005, factor: 1.2 },
  { above: 0, factor: 1.1 },
]
/** What ρ is divided by while it is so large that the first support hardly changes. */
const SHRINK = 5
/** A change of the support, as a share of the kept weights, from which on ρ is not too large. */
const MOVES = 0.005
/** Iterations of conjugate gradients on the support. */
const SOLVE_STEPS = 10

/** A linear to prune jointly; see `ReconstructionTask` for the shapes. */
export interface AlpsTask {
  rows: number
  cols: number
  /** Dense. */
  weights: Float32Array
  /** `H = Σ x xᵀ / tokens`, the upper triangle. */
  moment: Float64Array
}

export interface AlpsResult {
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
  /** `[rows, cols]`, 0 where pruned. */
  weights: Float32Array
  /** Of ADMM. */
  iterations: number
}

export interface AlpsSolver {
  prune(task: AlpsTask, pattern: SparsityPattern, scope: MaskScope): Promise<AlpsResult>
  release(): Promise<void>
}

/**
 * ALPS (Meng, Behdin, Wang and Mazumder 2024, arXiv 2406.07831): mask and weights of one linear jointly, by ADMM with
 * a growing penalty (Algorithm 1), then conjugate gradients on the support that it found (Algorithm 2).
 *
 * It minimises `‖(Ŵ − W) X‖² + λ ‖Ŵ − W‖²` under the pattern, λ the hundredth part of the mean diagonal, Ŵ dense.
 * Everything is scaled first so that `H + λ I` has a unit diagonal, G; the lowest weights are then those of the Wanda
 * score, which begin. A step is
 *
 *     W ← (Ŵ G − V + ρ D) (G + ρ I)⁻¹    D ← P(W + V/ρ)    V ← V + ρ (W − D)
 *
 * where P keeps what the pattern says of the largest. Every third step ρ grows by 1.3, 1.2 or 1.1 as the support
 * changed by more than a tenth, 0.5 % or anything at all of what is kept; without change it ends. Constants that the
 * paper leaves open (a first ρ that is too large, the early end) are those of the authors' program; like there the
 * inverse and the iterates are f32. The competition is over the whole matrix as published, or in each row.
 */
export async function createAlps(threads: number): Promise<AlpsSolver> {
  const inverses = await InferenceSession.create(encodeModel(inverseGraph()), backgroundSession(threads))
  const products = await InferenceSession.create(encodeModel(productGraph()), backgroundSession(threads))

  /** `values · matrix` */
  async function multiply(
    values: Float32Array,
    matrix: Tensor,
    { rows, cols }: Scaled,
  ): Promise<Float32Array> {
    const { y } = await products.run({ a: new Tensor('float32', values, [rows, cols]), b: matrix })
    return y?.data as Float32Array
  }

  /** `(G + ρ I)⁻¹` */
  async function inverse({ cols, moment }: Scaled, penalty: number): Promise<Tensor> {
    const shifted = moment.slice()
    for (let at = 0; at < shifted.length; at += cols + 1) shifted[at] = (shifted[at] as number) + penalty
    const { y } = await inverses.run({ a: new Tensor('float32', shifted, [cols, cols]) })
    return y as Tensor
  }

  /** Algorithm 1: the support, and the weights on it as ADMM leaves them. */
  async function admm(scaled: Scaled, target: Float32Array, pattern: SparsityPattern, scope: MaskScope) {
    const { rows, cols, dense } = scaled
    const project = (values: Float32Array) => selectKept(squared(values), rows, cols, pattern, scope)
    const start: Split = { values: dense, bits: project(dense), multiplier: 0 }
    let split = start
    let penalty = FIRST_PENALTY
    let solve = await inverse(scaled, penalty)
    let weights = dense
    let last = start.bits
    let growing = false
    let iterations = 0
    while (iterations < MAX_ITERATIONS) {
      weights = await multiply(rightSide(target, split, penalty, scaled), solve, scaled)
      const values = lift(weights, split, penalty, scaled)
      split = { values, bits: project(values), multiplier: penalty }
      iterations++
      if (iterations % LOOK_EVERY > 0) continue
      const changed = countDifferingBits(split.bits, last) / Math.max(1, countBits(last))
      last = split.bits
      if (changed > MOVES) growing = true
      if (changed === 0 && growing) break
      if (growing) {
        penalty *= GROWTH.find(({ above }) => changed > above)?.factor ?? 1
      } else {
        // The penalty pins the weights to the first support: again with less of it.
        penalty /= SHRINK
        if (changed > 0) split = start
      }
      if (iterations > MAY_SETTLE && changed < SETTLED) break
      solve = await inverse(scaled, penalty)
    }
    return { bits: project(weights), weights, iterations }
  }

  /** Algorithm 2: conjugate gradients from `weights` on, in place; the unit diagonal is its preconditioner. */
  async function refine(scaled: Scaled, target: Float32Array, bits: Uint8Array, weights: Float32Array) {
    const { rows, cols } = scaled
    const moment = new Tensor('float32', scaled.moment, [cols, cols])
    const residual = await multiply(weights, moment, scaled)
    for (let i = 0; i < residual.length; i++) residual[i] = (target[i] as number) - (residual[i] as number)
    clear(residual, bits, cols)
    const direction = residual.slice()
    const squares = new Float64Array(rows)
    for (let row = 0; row < rows; row++) squares[row] = dot(residual, residual, row, cols)
    for (let step = 0; step < SOLVE_STEPS; step++) {
      const bent = await multiply(direction, moment, scaled)
      clear(bent, bits, cols)
      for (let row = 0; row < rows; row++) {
        const [first, end] = [row * cols, (row + 1) * cols]
        const before = squares[row] as number
        const curvature = dot(direction, bent, row, cols)
        const length = curvature > 0 ? before / curvature : 0
        for (let i = first; i < end; i++) {
          weights[i] = (weights[i] as number) + length * (direction[i] as number)
          residual[i] = (residual[i] as number) - length * (bent[i] as number)
        }
        const after = dot(residual, residual, row, cols)
        const turn = before > 0 ? after / before : 0
        for (let i = first; i < end; i++)
          direction[i] = (residual[i] as number) + turn * (direction[i] as number)
        squares[row] = after
      }
    }
  }

  return {
    async prune(task, pattern, scope) {
      const { cols } = task
      const scaled = scale(task)
      const target = await multiply(scaled.dense, new Tensor('float32', scaled.moment, [cols, cols]), scaled)
      const { bits, weights, iterations } = await admm(scaled, target, pattern, scope)
      clear(weights, bits, cols)
      await refine(scaled, target, bits, weights)
      for (let i = 0; i < weights.length; i++)
        weights[i] = (weights[i] as number) / (scaled.norms[i % cols] as number)
      return { bits, weights, iterations }
    },
    async release() {
      await inverses.release()
      await products.release()
    },
  }
}

/**
 * The variables D and V of ADMM. After a step `D` is what the projection keeps of `W + V/ρ` and `V` is `ρ` times what
 * it prunes, so that one array holds both.
 */
interface Split {
  /** `W + V/ρ` `[rows, cols]` */
  values: Float32Array
  bits: Uint8Array
  /** The ρ that V was made with; 0 of a V of zeros. */
  multiplier: number
}

/** `Ŵ G − V + ρ D`: what `(G + ρ I)⁻¹` is applied to. */
function rightSide(
  target: Float32Array,
  { values, bits, multiplier }: Split,
  penalty: number,
  { rows, cols }: Scaled,
): Float32Array {
  const side = new Float32Array(rows * cols)
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      const isKept = ((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1
      side[i] = (target[i] as number) + (isKept === 1 ? penalty : -multiplier) * (values[i] as number)
    }
  }
  return side
}

/** `W + V/ρ`, which the projection is of. */
function lift(
  weights: Float32Array,
  { values, bits, multiplier }: Split,
  penalty: number,
  { rows, cols }: Scaled,
): Float32Array {
  const lifted = weights.slice()
  const share = multiplier / penalty
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      const isKept = ((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1
      if (isKept === 0) lifted[i] = (lifted[i] as number) + share * (values[i] as number)
    }
  }
  return lifted
}

/** A linear in the coordinates in which `H + λ I` has a unit diagonal. */
interface Scaled {
  rows: number
  cols: number
  /** `√(H_jj + λ)`, 1 where that is 0. */
  norms: Float64Array
  /** G `[cols, cols]` */
  moment: Float32Array
  /** Ŵ, times the norms. */
  dense: Float32Array
}

function scale({ rows, cols, weights, moment: triangle }: AlpsTask): Scaled {
  const full = new Float64Array(cols * cols)
  unfoldTriangle(triangle, full, cols)
  let trace = 0
  for (let at = 0; at < full.length; at += cols + 1) trace += full[at] as number
  const norms = new Float64Array(cols)
  for (let col = 0; col < cols; col++) {
    const at = col * (cols + 1)
    const diagonal = (full[at] as number) + (DAMPING * trace) / cols
    full[at] = diagonal
    norms[col] = Math.sqrt(diagonal) || 1
  }
  const moment = new Float32Array(cols * cols)
  for (let row = 0, i = 0; row < cols; row++) {
    for (let col = 0; col < cols; col++, i++)
      moment[i] = (full[i] as number) / ((norms[row] as number) * (norms[col] as number))
  }
  const dense = weights.map((weight, i) => weight * (norms[i % cols] as number))
  return { rows, cols, norms, moment, dense }
}

/** Makes the pruned of `values` `[rows, cols]` 0. */
function clear(values: Float32Array, bits: Uint8Array, cols: number): void {
  const width = rowBytes(cols)
  for (let i = 0, row = 0; i < values.length; row++) {
    for (let col = 0; col < cols; col++, i++) {
      if ((((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1) === 0) values[i] = 0
    }
  }
}

function squared(values: Float32Array): Float64Array {
  const squares = new Float64Array(values.length)
  for (let i = 0; i < squares.length; i++) squares[i] = (values[i] as number) ** 2
  return squares
}

/** Of one row of two matrices. */
function dot(a: Float32Array, b: Float32Array, row: number, cols: number): number {
  let sum = 0
  for (let i = row * cols; i < (row + 1) * cols; i++) sum += (a[i] as number) * (b[i] as number)
  return sum
}

function inverseGraph(): OnnxGraph {
  const square = ['cols', 'cols']
  return {
    name: 'inverse',
    inputs: [{ name: 'a', type: 'float32', shape: square }],
    outputs: [{ name: 'y', type: 'float32', shape: square }],
    initializers: [],
    nodes: [{ op: 'Inverse', domain: 'com.microsoft', inputs: ['a'], outputs: ['y'] }],
  }
}

function productGraph(): OnnxGraph {
  return {
    name: 'product',
    inputs: [
      { name: 'a', type: 'float32', shape: ['rows', 'cols'] },
      { name: 'b', type: 'float32', shape: ['cols', 'cols'] },
    ],
    outputs: [{ name: 'y', type: 'float32', shape: ['rows', 'cols'] }],
    initializers: [],
    nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['y'] }],
  }
}

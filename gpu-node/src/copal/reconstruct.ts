import { rowBytes } from '@copal/shared/mask/bits.ts'
import { buildConjugateGradients } from '../graph/conjugate-gradients.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/runtime.ts'
import { backgroundSession, createMomentProduct } from './moment-product.ts'
import { unfoldTriangle } from './packed-triangle.ts'

/** λ as a share of the mean diagonal of H: SparseGPT's damping. */
export const DAMPING = 0.01
/** Iterations in one run of the graph: after each the residuals are looked at. */
const STEPS = 4
/** f32 loses the true residual after a while, and f64 finds it again; more often than this it has not been needed. */
const MAX_REFINEMENTS = 8
/** Runs of the graph between two residuals in f64. */
const MAX_RUNS = 50
/** What f32 can win before its residual no longer is the true one. */
const REACH = 1e-4

/** One linear and the mask whose surviving weights are solved for. */
export interface ReconstructionTask {
  rows: number
  cols: number
  /** Dense, `[rows, cols]`. */
  weights: Float32Array
  /** `H = Σ x xᵀ / tokens`, the upper triangle row by row from the diagonal. */
  moment: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
}

export interface Reconstruction {
  /** `[rows, cols]`, 0 where pruned. */
  weights: Float32Array
  /** `tr(E H Eᵀ)` of the mask alone, and with the new weights. */
  before: number
  after: number
}

/** Solves for the surviving weights of one linear after another. */
export interface Reconstructor {
  solve(task: ReconstructionTask): Promise<Reconstruction>
  release(): Promise<void>
}

/** How exactly, for tests and measurements: {@link TOLERANCE} unless given. */
export interface ReconstructorOptions {
  tolerance?: number
  /** Told after each linear: iterations, and the relative residual that they left. */
  onSolved?: (effort: { iterations: number; residual: number }) => void
}

/**
 * Norm of the residual over that of the mask alone. What is left of the gain goes with its square: at this one the
 * output error of the default model's linears agrees to four digits with that of a thousandth of it.
 */
const TOLERANCE = 1e-2

/**
 * Prepares the least squares `min ‖(w − a) X‖² / tokens + λ ‖w − a‖²` over the weights `a` that a mask keeps, of
 * each row of a linear, from the dense `w`: `(H_KK + λ I) a_K = ((H + λ I) w)_K`, with λ the hundredth part of H's
 * mean diagonal (the least squares and the damping of SparseGPT, Frantar and Alistarh 2023, solved exactly).
 *
 * All rows share H, so they are solved together by conjugate gradients scaled to a unit diagonal, an iteration
 * being one f32 GEMM; the residual is replaced by one computed in f64, and refined from there, until its norm is
 * at most a hundredth of what it was. No row ends with a higher damped error than it began with.
 *
 * One session serves every linear. Its memory is H in f64 and f32 and some ten arrays of the linear's size.
 */
export async function createReconstructor(
  threads: number,
  { tolerance = TOLERANCE, onSolved }: ReconstructorOptions = {},
): Promise<Reconstructor> {
  const product = await createMomentProduct(threads)
  const iterate = await InferenceSession.create(
    encodeModel(buildConjugateGradients(STEPS)),
    backgroundSession(threads),
  )

  /** Brings the residual of a system up to date, in f64. */
  async function measure(system: System): Promise<void> {
    const { rows, cols, moment, error, residual } = system
    await product.multiply(error, moment, residual, [rows, cols])
    updateResidual(system)
  }

  /** The correction that makes the residual vanish, as far as f32 goes. */
  async function correct(system: System, goal: number): Promise<{ x: Float32Array; iterations: number }> {
    const { rows, cols, scaled, mask } = system
    const shape = [rows, cols]
    const b = new Tensor('float32', unitResidual(system), shape)
    let state: Record<string, Tensor> = {
      x: new Tensor('float32', new Float32Array(rows * cols), shape),
      r: b,
      p: b,
      rr: new Tensor(
        'float32',
        Float32Array.from(system.norms, (norm) => (norm > 0 ? 1 : 0)),
        [rows, 1],
      ),
    }
    const fixed = {
      a: new Tensor('float32', scaled, [cols, cols]),
      mask: new Tensor('float32', mask, shape),
    }
    let iterations = 0
    for (let run = 0; run < MAX_RUNS; run++) {
      const outputs = await iterate.run({ ...fixed, ...state })
      state = Object.fromEntries(
        ['x', 'r', 'p', 'rr'].map((name) => [name, outputs[`next_${name}`] as Tensor]),
      )
      iterations += STEPS
      // `run` never leaves the event loop a turn: this lets the parent's messages and its end through.
      await new Promise((resolve) => setImmediate(resolve))
      if (remaining(system, state['rr']?.data as Float32Array) <= goal) break
    }
    return { x: state['x']?.data as Float32Array, iterations }
  }

  return {
    async solve(task) {
      const system = createSystem(task)
      await measure(system)
      const start = {
        weights: system.kept.slice(),
        errors: system.errors.slice(),
        damped: system.damped.slice(),
      }
      const first = totalNorm(system)
      let iterations = 0
      for (let refinement = 0; refinement < MAX_REFINEMENTS; refinement++) {
        const left = totalNorm(system)
        if (!(left > tolerance * first)) break
        // A little beyond the goal: the recurrence's residual flatters.
        const correction = await correct(system, Math.max(REACH, (0.7 * tolerance * first) / left))
        applyCorrection(system, correction.x)
        iterations += correction.iterations
        await measure(system)
      }
      onSolved?.({ iterations, residual: first > 0 ? totalNorm(system) / first : 0 })
      revertWorse(system, start)
      return { weights: system.kept, before: sum(start.errors), after: sum(system.errors) }
    },
    async release() {
      await product.release()
      await iterate.release()
    },
  }
}

/** The systems of one linear's rows and how far they are solved. */
interface System {
  rows: number
  cols: number
  dense: Float32Array
  /** 1 where kept. */
  mask: Float32Array
  moment: Float64Array
  damping: number
  /** `1 / √(H_jj + λ)`, 0 where that is 0. */
  scale: Float64Array
  /** `H + λ I`, scaled from both sides. */
  scaled: Float32Array
  /** The weights `a`. */
  kept: Float32Array
  /** `w − a` */
  error: Float64Array
  /** `(H + λ I)(w − a)` where kept, else 0. */
  residual: Float64Array
  /** Of each row: the norm of the scaled residual, the output error, and that with the damping. */
  norms: Float64Array
  errors: Float64Array
  damped: Float64Array
}

function createSystem({ rows, cols, weights, moment: triangle, bits }: ReconstructionTask): System {
  const moment = new Float64Array(cols * cols)
  unfoldTriangle(triangle, moment, cols)
  let trace = 0
  for (let col = 0; col < cols; col++) trace += moment[col * cols + col] as number
  const damping = (DAMPING * trace) / cols
  const scale = new Float64Array(cols)
  for (let col = 0; col < cols; col++) {
    const diagonal = (moment[col * cols + col] as number) + damping
    scale[col] = diagonal > 0 ? 1 / Math.sqrt(diagonal) : 0
  }
  const scaled = new Float32Array(cols * cols)
  for (let row = 0, i = 0; row < cols; row++) {
    const ofRow = scale[row] as number
    for (let col = 0; col < cols; col++, i++) {
      const value = (moment[i] as number) + (row === col ? damping : 0)
      scaled[i] = value * ofRow * (scale[col] as number)
    }
  }
  const mask = new Float32Array(rows * cols)
  const kept = new Float32Array(rows * cols)
  const error = new Float64Array(rows * cols)
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      const weight = weights[i] as number
      const bit = ((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1
      mask[i] = bit
      if (bit) kept[i] = weight
      else error[i] = weight
    }
  }
  return {
    rows,
    cols,
    dense: weights,
    mask,
    moment,
    damping,
    scale,
    scaled,
    kept,
    error,
    residual: new Float64Array(rows * cols),
    norms: new Float64Array(rows),
    errors: new Float64Array(rows),
    damped: new Float64Array(rows),
  }
}

/** Makes residuals and errors of `E H`, which stands in `residual`. */
function updateResidual(system: System): void {
  const { rows, cols, mask, damping, scale, error, residual, norms, errors, damped } = system
  for (let row = 0, i = 0; row < rows; row++) {
    let output = 0
    let square = 0
    let norm = 0
    for (let col = 0; col < cols; col++, i++) {
      const e = error[i] as number
      const g = residual[i] as number
      output += e * g
      square += e * e
      const r = (mask[i] as number) * (g + damping * e)
      residual[i] = r
      norm += (r * (scale[col] as number)) ** 2
    }
    errors[row] = output
    damped[row] = output + damping * square
    norms[row] = Math.sqrt(norm)
  }
}

/** The scaled residual, each row divided by its norm. */
function unitResidual({ rows, cols, scale, residual, norms }: System): Float32Array {
  const unit = new Float32Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    const norm = norms[row] as number
    const factor = norm > 0 ? 1 / norm : 0
    for (let col = 0; col < cols; col++, i++) {
      unit[i] = (residual[i] as number) * (scale[col] as number) * factor
    }
  }
  return unit
}

/** Norm of the residual over all rows, from their relative square norms, over what it was. */
function remaining(system: System, squares: Float32Array): number {
  let left = 0
  for (let row = 0; row < system.rows; row++)
    left += (system.norms[row] as number) ** 2 * (squares[row] as number)
  return Math.sqrt(left) / totalNorm(system)
}

function totalNorm({ norms }: System): number {
  return Math.sqrt(norms.reduce((total, norm) => total + norm * norm, 0))
}

/** Adds a correction to the weights, which are f32, and takes the error from what they then are. */
function applyCorrection(
  { rows, cols, dense, mask, scale, kept, error, norms }: System,
  x: Float32Array,
): void {
  for (let row = 0, i = 0; row < rows; row++) {
    const norm = norms[row] as number
    for (let col = 0; col < cols; col++, i++) {
      if (mask[i] === 0) continue
      kept[i] = (kept[i] as number) + (x[i] as number) * (scale[col] as number) * norm
      error[i] = (dense[i] as number) - (kept[i] as number)
    }
  }
}

/** Rows whose damped error rose get back the weights that they began with: f32 may spoil what was solved already. */
function revertWorse(
  { rows, cols, kept, errors, damped }: System,
  start: { weights: Float32Array; errors: Float64Array; damped: Float64Array },
): void {
  for (let row = 0; row < rows; row++) {
    if ((damped[row] as number) <= (start.damped[row] as number)) continue
    kept.set(start.weights.subarray(row * cols, (row + 1) * cols), row * cols)
    errors[row] = start.errors[row] as number
  }
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0)
}

import { buildConjugateGradients } from './conjugate-gradients-graph.ts'
import { encodeModel } from '../graph/onnx-writer.ts'
import { InferenceSession, Tensor } from '../graph/onnx-runtime.ts'
import { freeMemory } from '../../platform/free-memory.ts'
import {
  applyCorrection,
  scaleMoment,
  createRowSystem,
  relativeResidual,
  revertWorseRows,
  residualNorm,
  unitResidual,
  updateResidual,
  type ScaledMoment,
  type ReconstructionTask,
  type RowSystem,
} from './reconstruct-rows.ts'
import { backgroundSessionOptions, CHUNK_ROWS, createMomentProduct } from './moment-product.ts'

/** Iterations in one run of the graph: after each the residuals are looked at. */
const STEPS_PER_RUN = 4
/** f32 loses the true residual after a while, and f64 finds it again; more often than this it has not been needed. */
const MAX_REFINEMENTS = 8
/** Runs of the graph between two residuals in f64. */
const MAX_RUNS = 50
/** What f32 can win before its residual no longer is the true one. */
const MIN_F32_RESIDUAL = 1e-4

export interface Reconstruction {
  /** `[rows, cols]`, 0 where pruned. */
  weights: Float32Array
  /** The squared output error, `tr(E H Eᵀ)`, of the mask alone, and with the new weights. */
  before: number
  after: number
}

/** Solves for the surviving weights of one linear after another. */
export interface Reconstructor {
  solve(task: ReconstructionTask): Promise<Reconstruction>
  release(): Promise<void>
}

/** For tests and measurements. */
export interface ReconstructorOptions {
  /** {@link TOLERANCE} unless given. */
  tolerance?: number
  /** Told after every so many rows: iterations, and the relative residual that they left. */
  onSolved?: (effort: { rows: number; iterations: number; residual: number }) => void
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
 * All rows share H, so up to 512 are solved together by conjugate gradients scaled to a unit diagonal, an iteration
 * being one f32 GEMM; the residual is replaced by one computed in f64, and refined from there, until its norm is
 * at most a hundredth of what it was. No row ends with a higher damped error than it began with.
 *
 * The weights are the same to the bit whatever the number of threads. One session serves every linear; its memory is
 * H in f32 besides the caller's, and a score of arrays of 512 rows.
 */
export async function createReconstructor(
  threads: number,
  { tolerance = TOLERANCE, onSolved }: ReconstructorOptions = {},
): Promise<Reconstructor> {
  const product = await createMomentProduct(threads)
  const iterate = await InferenceSession.create(
    encodeModel(buildConjugateGradients(STEPS_PER_RUN)),
    backgroundSessionOptions(threads),
  )

  /** Brings the residual of a system up to date, in f64. */
  async function measure(moments: ScaledMoment, system: RowSystem): Promise<void> {
    const { rows, cols, error, residual } = system
    await product.multiply(error, moments.moment, residual, [rows, cols])
    updateResidual(moments, system)
  }

  /** The correction that makes the residual vanish, as far as f32 goes, `[cols, rows]`. */
  async function solveCorrection(moments: ScaledMoment, system: RowSystem, goal: number) {
    const { rows, cols } = system
    const shape = [cols, rows]
    const b = new Tensor('float32', unitResidual(moments, system), shape)
    let state: Record<string, Tensor> = {
      x: new Tensor('float32', new Float32Array(rows * cols), shape),
      r: b,
      p: b,
      rr: new Tensor(
        'float32',
        Float32Array.from(system.norms, (norm) => (norm > 0 ? 1 : 0)),
        [1, rows],
      ),
    }
    const fixed = {
      a: new Tensor('float32', moments.scaled, [cols, cols]),
      mask: new Tensor('float32', system.mask, shape),
    }
    let iterations = 0
    for (let run = 0; run < MAX_RUNS; run++) {
      const outputs = await iterate.run({ ...fixed, ...state })
      freeTensors(Object.values(state))
      state = Object.fromEntries(
        ['x', 'r', 'p', 'rr'].map((name) => [name, outputs[`next_${name}`] as Tensor]),
      )
      iterations += STEPS_PER_RUN
      // `run` never leaves the event loop a turn: this lets the parent's messages and its end through.
      await new Promise((resolve) => setImmediate(resolve))
      if (relativeResidual(system, state['rr']?.data as Float32Array) <= goal) break
    }
    const { x, ...rest } = state
    freeTensors(Object.values(rest))
    return { x: x?.data as Float32Array<ArrayBuffer>, iterations }
  }

  /** Solves rows `first … end` into `weights`, and tells their output error before and after. */
  async function solveRows(
    task: ReconstructionTask,
    moments: ScaledMoment,
    weights: Float32Array,
    first: number,
    end: number,
  ) {
    const system = createRowSystem(task, weights, first, end)
    await measure(moments, system)
    const start = {
      weights: system.kept.slice(),
      errors: system.errors.slice(),
      damped: system.damped.slice(),
    }
    const norm = residualNorm(system)
    let iterations = 0
    for (let refinement = 0; refinement < MAX_REFINEMENTS; refinement++) {
      const left = residualNorm(system)
      if (!(left > tolerance * norm)) break
      // A little beyond the goal: the recurrence's residual flatters.
      const correction = await solveCorrection(
        moments,
        system,
        Math.max(MIN_F32_RESIDUAL, (0.7 * tolerance * norm) / left),
      )
      applyCorrection(moments, system, correction.x)
      freeMemory(correction.x)
      iterations += correction.iterations
      await measure(moments, system)
    }
    const residual = norm > 0 ? residualNorm(system) / norm : 0
    revertWorseRows(system, start)
    onSolved?.({ rows: end - first, iterations, residual })
    for (const values of [start.weights, system.mask, system.error, system.residual]) freeMemory(values)
    return { before: sum(start.errors), after: sum(system.errors) }
  }

  return {
    async solve(task) {
      const { rows, cols } = task
      const moments = scaleMoment(task)
      const weights = new Float32Array(rows * cols)
      let before = 0
      let after = 0
      const most = Math.min(CHUNK_ROWS, cols)
      for (let first = 0; first < rows; first += most) {
        const gain = await solveRows(task, moments, weights, first, Math.min(first + most, rows))
        before += gain.before
        after += gain.after
      }
      freeMemory(moments.scaled)
      return { weights, before, after }
    },
    async release() {
      await product.release()
      await iterate.release()
    },
  }
}

/** Frees the memory of tensors, of which two may share it. */
function freeTensors(tensors: readonly Tensor[]): void {
  for (const data of new Set(tensors.map((tensor) => tensor.data as Float32Array<ArrayBuffer>)))
    freeMemory(data)
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0)
}

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
  updateError,
  updateResidual,
  type ScaledMoment,
  type ReconstructionTask,
  type RowSystem,
} from './reconstruct-rows.ts'
import { backgroundSessionOptions, CHUNK_ROWS, createMomentProduct } from './moment-product.ts'
import { createRoundToInt4 } from './round-to-int4.ts'

/** Iterations in one run of the graph. The residuals are checked after each run. */
const STEPS_PER_RUN = 4
/** Maximum times that a residual in f64 replaces that of the f32 iterations, which drifts. More were never needed. */
const MAX_REFINEMENTS = 8
/** Maximum runs of the graph between two residuals in f64. */
const MAX_RUNS = 50
/** Relative residual down to which f32 iterations can be trusted; below it their residual is no longer the true one. */
const MIN_F32_RESIDUAL = 1e-4

/** The solved weights of one linear, and their output error. */
export interface Reconstruction {
  /** `[rows, cols]`, 0 where pruned. */
  weights: Float32Array
  /** The squared output error, `tr(E H Eᵀ)`, of the mask with the dense values. */
  before: number
  /** The same with the new weights, rounded if they are. */
  after: number
}

/** Solves for the surviving weights of one linear at a time. */
export interface Reconstructor {
  /** Solves for the weights that the mask of `task` keeps. */
  solve(task: ReconstructionTask): Promise<Reconstruction>
  release(): Promise<void>
}

/** Options of a reconstructor. All but the first are for tests and measurements. */
export interface ReconstructorOptions {
  /** Whether the solved weights are rounded to codes of packed int4 (see `round-to-int4.ts`); default false. */
  int4?: boolean
  /** Default {@link TOLERANCE}. */
  tolerance?: number
  /** Called after each chunk of rows, with its number of iterations and the relative residual that is left. */
  onSolved?: (effort: { rows: number; iterations: number; residual: number }) => void
}

/**
 * Norm of the residual at which a solution is accepted, relative to the residual before the first iteration. The error
 * reduction that is missed is proportional to its square: with this tolerance, the output errors of the default model's
 * linears agree to four digits with those of a tolerance a thousand times smaller.
 */
const TOLERANCE = 1e-2

/**
 * Creates a reconstructor: it solves `min ‖(w − a) X‖² / tokens + λ ‖w − a‖²` for each row of a linear, over the weights
 * `a` that a mask keeps, from the dense `w`. The solution satisfies `(H_KK + λ I) a_K = ((H + λ I) w)_K`, with λ = 0.01
 * of H's mean diagonal: the least squares and the damping of SparseGPT (Frantar and Alistarh 2023), solved exactly.
 *
 * All rows share H, so up to 512 rows are solved together, by conjugate gradients on the system scaled to a unit
 * diagonal; an iteration is one f32 GEMM. The residual is then computed again in f64, and the solution refined from
 * there, until the residual's norm is at most 0.01 of the first. No row ends with a higher damped error than it began with,
 * unless its weights are then rounded.
 *
 * The weights do not depend on the number of threads. One session serves every linear. It needs memory for H in f32
 * and about twenty arrays of 512 rows.
 */
export async function createReconstructor(
  threads: number,
  { int4 = false, tolerance = TOLERANCE, onSolved }: ReconstructorOptions = {},
): Promise<Reconstructor> {
  const roundToInt4 = int4 ? createRoundToInt4(threads) : null
  const product = await createMomentProduct(threads)
  const iterate = await InferenceSession.create(
    encodeModel(buildConjugateGradients(STEPS_PER_RUN)),
    backgroundSessionOptions(threads),
  )

  /** Computes the residual of a system in f64. */
  async function measure(moments: ScaledMoment, system: RowSystem): Promise<void> {
    const { rows, cols, error, residual } = system
    await product.multiply(error, moments.moment, residual, [rows, cols])
    updateResidual(moments, system)
  }

  /** Computes what depends on the weights of a system that were changed otherwise than by a correction. */
  async function measureAnew(moments: ScaledMoment, system: RowSystem): Promise<void> {
    updateError(system)
    await measure(moments, system)
  }

  /** Solves in f32 for the correction `[cols, rows]` that reduces the residual to `goal` of its norm. */
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
      // `run` does not yield to the event loop. This lets the process handle messages from its parent and its exit.
      await new Promise((resolve) => setImmediate(resolve))
      if (relativeResidual(system, state['rr']?.data as Float32Array) <= goal) break
    }
    const { x, ...rest } = state
    freeTensors(Object.values(rest))
    return { x: x?.data as Float32Array<ArrayBuffer>, iterations }
  }

  /** Solves rows `first … end - 1` into `weights`, and returns their output error before and after. */
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
      // A little below the tolerance, because the residual of the recurrence is smaller than the true one.
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
    const isReverted = revertWorseRows(system, start)
    if (roundToInt4) {
      if (isReverted) await measureAnew(moments, system)
      await roundToInt4(moments, system)
      await measureAnew(moments, system)
    }
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
      const maxRows = Math.min(CHUNK_ROWS, cols)
      for (let first = 0; first < rows; first += maxRows) {
        const gain = await solveRows(task, moments, weights, first, Math.min(first + maxRows, rows))
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

/** Frees the memory of tensors, some of which may share it. */
function freeTensors(tensors: readonly Tensor[]): void {
  for (const data of new Set(tensors.map((tensor) => tensor.data as Float32Array<ArrayBuffer>)))
    freeMemory(data)
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0)
}

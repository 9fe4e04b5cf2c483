import { rowBytes } from '@copal/shared/mask/bit-rows.ts'

/** λ as a fraction of the mean diagonal of H: SparseGPT's damping. */
export const DAMPING = 0.01

/** One linear and the mask that says which weights to solve for. */
export interface ReconstructionTask {
  rows: number
  cols: number
  /** Dense, `[rows, cols]`. */
  weights: Float32Array
  /** `H = Σ x xᵀ / tokens`, the full matrix `[cols, cols]`, symmetric. */
  moment: Float64Array
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
}

/** The second moment of one linear, and its scaled copy. All rows of the linear share it. */
export interface ScaledMoment {
  /** H `[cols, cols]` */
  moment: Float64Array
  /** λ */
  damping: number
  /** `1 / √(H_jj + λ)`, or 0 where `H_jj + λ` is 0, `[cols]`. */
  scale: Float64Array
  /** `H + λ I` with rows and columns multiplied by `scale`, so that its diagonal is 1, `[cols, cols]`. */
  scaled: Float32Array<ArrayBuffer>
}

/** Scales `H + λ I` to a unit diagonal. */
export function scaleMoment({ cols, moment }: ReconstructionTask): ScaledMoment {
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
  return { moment, damping, scale, scaled }
}

/** Some rows of a linear and the current state of their solution. Arrays are `[rows, cols]` unless stated otherwise. */
export interface RowSystem {
  rows: number
  cols: number
  dense: Float32Array
  /** Mask bits `[rows, ceil(cols/8)]`: a view of the task's. */
  bits: Uint8Array
  /** 1 where kept, `[cols, rows]`. */
  mask: Float32Array<ArrayBuffer>
  /** The weights `a`: a view of the result. */
  kept: Float32Array
  /** `w − a` */
  error: Float64Array<ArrayBuffer>
  /** `(H + λ I)(w − a)` where kept, else 0. */
  residual: Float64Array<ArrayBuffer>
  /** Norm of each row's scaled residual, `[rows]`. */
  norms: Float64Array
  /** Output error of each row, `[rows]`. */
  errors: Float64Array
  /** Output error of each row plus `λ ‖w − a‖²`, `[rows]`. */
  damped: Float64Array
}

/**
 * Creates the system of rows `first … end - 1`, with the dense values of the kept weights as its first solution. The
 * caller computes the residual.
 *
 * @param result the weights of the whole linear, `[rows, cols]`; these rows are solved in place
 */
export function createRowSystem(
  { cols, weights, bits }: ReconstructionTask,
  result: Float32Array,
  first: number,
  end: number,
): RowSystem {
  const rows = end - first
  const dense = weights.subarray(first * cols, end * cols)
  const kept = result.subarray(first * cols, end * cols)
  const mask = new Float32Array(rows * cols)
  const error = new Float64Array(rows * cols)
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      const weight = dense[i] as number
      if (((bits[(first + row) * width + (col >> 3)] as number) >> (col & 7)) & 1) {
        mask[col * rows + row] = 1
        kept[i] = weight
      } else {
        error[i] = weight
      }
    }
  }
  return {
    rows,
    cols,
    dense,
    bits: bits.subarray(first * width, end * width),
    mask,
    kept,
    error,
    residual: new Float64Array(rows * cols),
    norms: new Float64Array(rows),
    errors: new Float64Array(rows),
    damped: new Float64Array(rows),
  }
}

/** Replaces `E H`, which `residual` contains, by the residual, and computes the norms and errors of the rows. */
export function updateResidual({ damping, scale }: ScaledMoment, system: RowSystem): void {
  const { rows, cols, mask, error, residual, norms, errors, damped } = system
  for (let row = 0, i = 0; row < rows; row++) {
    let output = 0
    let square = 0
    let norm = 0
    for (let col = 0; col < cols; col++, i++) {
      const e = error[i] as number
      const g = residual[i] as number
      output += e * g
      square += e * e
      const r = (mask[col * rows + row] as number) * (g + damping * e)
      residual[i] = r
      norm += (r * (scale[col] as number)) ** 2
    }
    errors[row] = output
    damped[row] = output + damping * square
    norms[row] = Math.sqrt(norm)
  }
}

/** Returns the scaled residual with each row divided by its norm, transposed: `[cols, rows]`. */
export function unitResidual(
  { scale }: ScaledMoment,
  { rows, cols, residual, norms }: RowSystem,
): Float32Array<ArrayBuffer> {
  const unit = new Float32Array(rows * cols)
  for (let row = 0, i = 0; row < rows; row++) {
    const norm = norms[row] as number
    const factor = norm > 0 ? 1 / norm : 0
    for (let col = 0; col < cols; col++, i++) {
      unit[col * rows + row] = (residual[i] as number) * (scale[col] as number) * factor
    }
  }
  return unit
}

/**
 * Returns the norm of the residual over all rows, relative to that of the system.
 *
 * @param squares square norm of each row's residual, relative to the row's norm in the system, `[rows]`
 */
export function relativeResidual(system: RowSystem, squares: Float32Array): number {
  let left = 0
  for (let row = 0; row < system.rows; row++) {
    left += (system.norms[row] as number) ** 2 * (squares[row] as number)
  }
  return Math.sqrt(left) / residualNorm(system)
}

/** Returns the norm of the scaled residual over all rows. */
export function residualNorm({ norms }: RowSystem): number {
  return Math.sqrt(norms.reduce((total, norm) => total + norm * norm, 0))
}

/** Adds the correction `x` `[cols, rows]` to the weights, and computes the error of the weights as rounded to f32. */
export function applyCorrection(
  { scale }: ScaledMoment,
  { rows, cols, dense, mask, kept, error, norms }: RowSystem,
  x: Float32Array,
): void {
  for (let row = 0, i = 0; row < rows; row++) {
    const norm = norms[row] as number
    for (let col = 0; col < cols; col++, i++) {
      const at = col * rows + row
      if (mask[at] === 0) continue
      kept[i] = (kept[i] as number) + (x[at] as number) * (scale[col] as number) * norm
      error[i] = (dense[i] as number) - (kept[i] as number)
    }
  }
}

/** Computes the error of all weights of a system. */
export function updateError({ dense, kept, error }: RowSystem): void {
  for (let i = 0; i < error.length; i++) error[i] = (dense[i] as number) - (kept[i] as number)
}

/**
 * Restores the first weights of rows whose damped error rose: f32 can make an already good solution worse.
 *
 * @returns whether there were any; the errors of their weights and their residual are then not those of these weights
 */
export function revertWorseRows(
  { rows, cols, kept, errors, damped }: RowSystem,
  start: { weights: Float32Array; errors: Float64Array; damped: Float64Array },
): boolean {
  let isAny = false
  for (let row = 0; row < rows; row++) {
    if ((damped[row] as number) <= (start.damped[row] as number)) continue
    kept.set(start.weights.subarray(row * cols, (row + 1) * cols), row * cols)
    errors[row] = start.errors[row] as number
    isAny = true
  }
  return isAny
}

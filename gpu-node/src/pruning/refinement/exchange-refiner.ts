import { unfoldTriangle } from '../statistics/packed-triangle.ts'

/** One linear and the mask to refine. */
export interface ExchangeTask {
  rows: number
  cols: number
  /** The m of n:m; null for a ratio. */
  group: number | null
  /** W `[rows, cols]`, dense. */
  weights: Float32Array
  /** H, as returned by {@link ExchangeRefiner.unfold}. */
  moment: SharedMoment
  /** Mask bits `[rows, ceil(cols/8)]`, refined in place; unchanged after an error. */
  bits: Uint8Array
}

/** `H = Σ x xᵀ / tokens`, the full matrix `[cols, cols]`, in memory that threads share. */
export type SharedMoment = Float64Array<SharedArrayBuffer>

/** The squared output error, `tr(E H Eᵀ)`, of a mask before and after its refinement. */
export interface ErrorReduction {
  before: number
  after: number
}

/** Refines masks by exchange (see `exchange.ts`), one linear at a time: on threads of the processor, or on a GPU. */
export interface ExchangeRefiner {
  /** Expands the packed upper triangle of H. The next call reuses the memory of the result. */
  unfold(triangle: Float64Array, cols: number): SharedMoment
  /**
   * Refines the mask of one linear.
   *
   * @throws the error of a thread or of the device; the refiner cannot be used after it
   */
  refine(task: ExchangeTask): Promise<ErrorReduction>
  close(): Promise<void>
}

/** Creates the refiner of one selection, which has `threads` threads of the processor. */
export type CreateExchangeRefiner = (threads: number) => ExchangeRefiner

/** Returns an {@link ExchangeRefiner.unfold} with a buffer as large as the largest H so far. */
export function createUnfold(): ExchangeRefiner['unfold'] {
  let buffer = new SharedArrayBuffer(0)
  return (triangle, cols) => {
    const bytes = 8 * cols * cols
    if (buffer.byteLength < bytes) buffer = new SharedArrayBuffer(bytes)
    const moment = new Float64Array(buffer, 0, cols * cols)
    unfoldTriangle(triangle, moment, cols)
    return moment
  }
}

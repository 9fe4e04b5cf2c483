import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { loadNative } from '../../platform/native-addon.ts'

/** Rows in one call of the addon, which blocks the thread. */
const ROWS_PER_CALL = 128

/** Rows whose kept weights are rounded. All arrays are of these rows alone. */
export interface RowsToRound {
  rows: number
  cols: number
  /** The weights a, 0 where pruned, `[rows, cols]`, rounded in place. */
  values: Float32Array
  /** Mask bits `[rows, ceil(cols/8)]`. */
  bits: Uint8Array
  /** H `[cols, cols]` */
  moment: Float64Array
  /** λ */
  damping: number
  /** `(w − a)(H + λ I)` where kept, `[rows, cols]`; overwritten. */
  gradient: Float64Array
}

/** Rounds weights to the codes that packed int4 has for them. */
export type RoundToInt4 = (rows: RowsToRound) => Promise<void>

/**
 * Creates a function that rounds the kept weights of rows to codes of packed int4, each to the code that is best for the output
 * given the codes of the others: coordinate descent on `(w − a)(H + λ I)(w − a)ᵀ` (Behdin et al. 2023, QuantEase,
 * arXiv 2309.01885, for dense weights).
 *
 * An engine that packs the weights in int4, also from bf16, gives them these codes again. The result does not depend on the
 * number of threads.
 *
 * @throws NativeUnavailableError without the addon, which the engine of int4 needs as well
 */
export function createRoundToInt4(threads: number): RoundToInt4 {
  const addon = loadNative()
  return async ({ rows, cols, values, bits, moment, damping, gradient }) => {
    const width = rowBytes(cols)
    for (let first = 0; first < rows; first += ROWS_PER_CALL) {
      const end = Math.min(first + ROWS_PER_CALL, rows)
      addon.roundToInt4Rows({
        kernel: null,
        threads,
        cols,
        values: values.subarray(first * cols, end * cols),
        bits: bits.subarray(first * width, end * width),
        moment,
        damping,
        gradient: gradient.subarray(first * cols, end * cols),
      })
      // Lets the process handle messages from its parent and its exit.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

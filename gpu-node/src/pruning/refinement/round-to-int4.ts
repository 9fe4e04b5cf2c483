import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { loadNative } from '../../platform/native-addon.ts'
import type { RowSystem, ScaledMoment } from './reconstruct-rows.ts'

/** Rows in one call of the addon, which blocks the thread. */
const ROWS_PER_CALL = 128

/** Rounds the weights of a system whose residual is that of these weights. Afterwards the residual has no meaning. */
export type RoundToInt4 = (moments: ScaledMoment, system: RowSystem) => Promise<void>

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

  /** Rounds rows `first … end - 1` of a system. */
  function roundRows({ moment, damping }: ScaledMoment, system: RowSystem, first: number, end: number): void {
    const { cols, kept, bits, residual } = system
    const width = rowBytes(cols)
    addon.roundToInt4Rows({
      kernel: null,
      threads,
      cols,
      values: kept.subarray(first * cols, end * cols),
      bits: bits.subarray(first * width, end * width),
      moment,
      damping,
      gradient: residual.subarray(first * cols, end * cols),
    })
  }

  return async (moments, system) => {
    for (let first = 0; first < system.rows; first += ROWS_PER_CALL) {
      roundRows(moments, system, first, Math.min(first + ROWS_PER_CALL, system.rows))
      // Lets the process handle messages from its parent and its exit.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

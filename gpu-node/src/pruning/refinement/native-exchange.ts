import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { Addon, KernelName } from '../../../native/addon.d.ts'
import type { ExchangeLinear } from './exchange.ts'

/** As {@link swapRows} of `swaps.ts`, which it must equal to the bit. */
export type ExchangeRows = (linear: ExchangeLinear, first: number, end: number, floor: number) => void

/**
 * The refinement of rows in the addon, by its best kernel or the one that is named. Weights are f32.
 *
 * What is written, bits and errors, may lie in shared memory together with the rows of other threads; the call
 * sees its own rows only.
 */
export function nativeExchangeRows(addon: Addon, kernel: KernelName | null = null): ExchangeRows {
  return ({ cols, group, weights, moment, bits, gradient, errors }, first, end, floor) => {
    if (!(weights instanceof Float32Array)) throw new TypeError('the addon refines f32 weights')
    const bytes = rowBytes(cols)
    addon.exchangeRows({
      kernel,
      cols,
      group,
      weights: weights.subarray(first * cols, end * cols),
      moment,
      bits: bits.subarray(first * bytes, end * bytes),
      gradient: gradient.subarray(first * cols, end * cols),
      errors: errors.subarray(first, end),
      floor,
    })
  }
}

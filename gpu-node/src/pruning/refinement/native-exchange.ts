import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { Addon, KernelName } from '../../../native/addon.d.ts'
import type { ExchangeLinear } from './exchange.ts'

/** Refines rows as `exchangeRows` of `exchange.ts` does. Every implementation gives the same bits. */
export type ExchangeRows = (linear: ExchangeLinear, first: number, end: number, floor: number) => void

/**
 * Creates a function that refines rows in the addon, with the named kernel or the best one of this machine.
 *
 * The function takes weights in f32. `bits` and `errors` may be in memory that other threads share: it touches only
 * its own rows.
 *
 * @throws TypeError (the function) weights that are not f32
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

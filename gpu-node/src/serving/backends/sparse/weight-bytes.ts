import type { Precision } from '../../../../native/addon.d.ts'

/**
 * Bytes of a value, and bytes per weight of what its group shares: an f16 scale for 64 weights in int8; for 32 in int4,
 * and an f16 minimum, or packed 16 bits of scale and zero. Packed weights have a bit each too.
 */
const STORED_BYTES = {
  bf16: { value: 2, scales: 0, packedScales: 0 },
  int8: { value: 1, scales: 2 / 64, packedScales: 2 / 64 },
  int4: { value: 1 / 2, scales: 4 / 32, packedScales: 2 / 32 },
} as const satisfies Record<Precision, object>

/** Returns the bytes of a dense weight, scales included. */
export function denseBytesPerWeight(precision: Precision): number {
  const { value, scales } = STORED_BYTES[precision]
  return value + scales
}

/** Returns the bytes of pruned linears in each form; `keptShare` is the share of the weights that the mask keeps. */
export function formBytes(
  precision: Precision,
  weights: number,
  keptShare: number,
): { packed: number; dense: number } {
  const { value, scales, packedScales } = STORED_BYTES[precision]
  const kept = value * keptShare + (precision === 'int4' ? unevenNibbles(keptShare) : 0)
  return {
    packed: Math.round(weights * (kept + 1 / 8 + packedScales)),
    dense: Math.round(weights * (value + scales)),
  }
}

/**
 * Returns the bytes per weight of packed int4 that hold no value. Two tiles of 16 rows share the bytes of a group of 32
 * columns, as many as the fuller one keeps. With weights kept at random, that one is expected to keep half the mean
 * difference of two binomial numbers more than the average: `σ / √π`, with `σ² = 512 · p · (1 − p)`.
 */
function unevenNibbles(keptShare: number): number {
  return Math.sqrt((512 * keptShare * (1 - keptShare)) / Math.PI) / 1024
}

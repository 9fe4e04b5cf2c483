/**
 * Surviving values as weights files hold them: bfloat16, the kept weights of row 0 by column, then those of
 * row 1, without gaps.
 */
import { countBits, rowBytes } from './bits.ts'
import { maskInvalid } from './invalid.ts'

const F32_EXPONENT = 0x7f800000
const BF16_EXPONENT = 0x7f80

/**
 * Packs the kept weights of `weights` `[rows, cols]` f32, rounded to the nearest bfloat16, ties to even.
 *
 * @param bits `[rows, ceil(cols/8)]`, see `bits.ts`
 * @throws AppError `mask_invalid` naming the tensor and the weight where a kept one is not finite, or too large
 * for a bfloat16
 */
export function packValues(
  name: string,
  bits: Uint8Array,
  weights: Float32Array,
  rows: number,
  cols: number,
): Uint16Array<ArrayBuffer> {
  const words = new Uint32Array(weights.buffer, weights.byteOffset, weights.length)
  const values = new Uint16Array(countBits(bits))
  const width = rowBytes(cols)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      if (!(((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1)) continue
      const word = words[row * cols + col] as number
      const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
      if ((word & F32_EXPONENT) === F32_EXPONENT || (rounded & BF16_EXPONENT) === BF16_EXPONENT) {
        throw maskInvalid(
          `tensor '${name}' row ${row} column ${col} is ${weights[row * cols + col]}, which no bfloat16 holds as a finite value`,
        )
      }
      values[at++] = rounded
    }
  }
  return values
}

/**
 * Spreads packed values over `words` `[rows, cols]`, the bits of f32 values; pruned weights become 0.
 *
 * @param values as many as `bits` has set
 */
export function unpackValues(
  bits: Uint8Array,
  values: Uint16Array,
  rows: number,
  cols: number,
  words: Uint32Array,
): void {
  const width = rowBytes(cols)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      const kept = ((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1
      words[row * cols + col] = kept ? (values[at++] as number) << 16 : 0
    }
  }
}

/** Index of the first packed value that is NaN or infinite; -1 when all are finite. */
export function firstNotFinite(values: Uint16Array): number {
  return values.findIndex((value) => (value & BF16_EXPONENT) === BF16_EXPONENT)
}

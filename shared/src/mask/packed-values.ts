/** Surviving values as weights files store them: bfloat16, the kept weights of row 0 by column, then of row 1, no gaps. */
import { AppError } from '../errors.ts'
import { countBits, rowBytes } from './bit-rows.ts'
import { maskInvalid } from './mask-error.ts'

const F32_EXPONENT = 0x7f800000
const BF16_EXPONENT = 0x7f80

/** Rounds the f32 with these bits to the nearest bfloat16, ties to even; returns its bits, or -1 where it is not finite. */
function roundToBfloat16Bits(word: number): number {
  if ((word & F32_EXPONENT) === F32_EXPONENT) return -1
  const rounded = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16
  return (rounded & BF16_EXPONENT) === BF16_EXPONENT ? -1 : rounded
}

function asWords(weights: Float32Array): Uint32Array {
  return new Uint32Array(weights.buffer, weights.byteOffset, weights.length)
}

/**
 * Packs the kept weights of `weights` `[rows, cols]` f32, rounded to the nearest bfloat16, ties to even.
 *
 * @param bits `[rows, ceil(cols/8)]`, see `bit-rows.ts`; padding bits are zero
 * @throws AppError `mask_invalid` naming the tensor and the weight, when a kept weight is not finite or exceeds bfloat16
 */
export function packValues(
  name: string,
  bits: Uint8Array,
  weights: Float32Array,
  rows: number,
  cols: number,
): Uint16Array<ArrayBuffer> {
  const words = asWords(weights)
  const values = new Uint16Array(countBits(bits))
  const width = rowBytes(cols)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let byte = 0; byte < width; byte++) {
      const first = row * cols + byte * 8
      // `rest & -rest` is the lowest set bit.
      for (let rest = bits[row * width + byte] as number; rest; rest &= rest - 1) {
        const i = first + 31 - Math.clz32(rest & -rest)
        const rounded = roundToBfloat16Bits(words[i] as number)
        if (rounded < 0) {
          throw maskInvalid(
            `tensor '${name}' row ${row} column ${i - row * cols} is ${weights[i]}, which is not finite in bfloat16`,
          )
        }
        values[at++] = rounded
      }
    }
  }
  return values
}

/**
 * Rounds all weights of a tensor to the nearest bfloat16, ties to even.
 *
 * @throws AppError `unsupported_model` naming the tensor, when a weight is not finite or exceeds bfloat16
 */
export function roundToBfloat16(name: string, weights: Float32Array): Uint16Array<ArrayBuffer> {
  const words = asWords(weights)
  const values = new Uint16Array(words.length)
  for (let i = 0; i < words.length; i++) {
    const rounded = roundToBfloat16Bits(words[i] as number)
    if (rounded < 0) {
      throw new AppError(
        'unsupported_model',
        `Weight ${i} of '${name}' is ${weights[i]}, which is not finite in bfloat16. Use a model with finite weights.`,
      )
    }
    values[i] = rounded
  }
  return values
}

/**
 * Writes packed values into `words` `[rows, cols]`, the bits of f32 values; pruned weights become 0.
 *
 * @param bits `[rows, ceil(cols/8)]`, see `bit-rows.ts`; padding bits are zero
 * @param values one for each set bit
 */
export function unpackValues(
  bits: Uint8Array,
  values: Uint16Array,
  rows: number,
  cols: number,
  words: Uint32Array,
): void {
  const width = rowBytes(cols)
  words.fill(0, 0, rows * cols)
  let at = 0
  for (let row = 0; row < rows; row++) {
    for (let byte = 0; byte < width; byte++) {
      const first = row * cols + byte * 8
      for (let rest = bits[row * width + byte] as number; rest; rest &= rest - 1) {
        words[first + 31 - Math.clz32(rest & -rest)] = (values[at++] as number) << 16
      }
    }
  }
}

/** Returns the index of the first packed value that is NaN or infinite; -1 when all are finite. */
export function findNotFinite(values: Uint16Array): number {
  return values.findIndex((value) => (value & BF16_EXPONENT) === BF16_EXPONENT)
}

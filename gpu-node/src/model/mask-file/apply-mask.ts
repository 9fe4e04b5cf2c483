import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import type { MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { unpackValues } from '@copal/shared/mask/packed-values.ts'

/**
 * Applies a mask to dense weights in place: pruned weights become 0, kept ones stay or take the mask's values.
 *
 * @param words `[rows, cols]`, the bits of f32 values; may be anything where the mask brings values
 */
export function applyLinear(words: Uint32Array, linear: MaskLinear): void {
  const { rows, cols, bits, values } = linear
  if (values) unpackValues(bits, values, rows, cols, words)
  else zeroPruned(words, linear)
}

/** Table with the eight words that keep or clear eight weights, for each byte of a mask. */
const KEEP = Uint32Array.from({ length: 256 * 8 }, (_, i) => (((i >> 3) >> (i & 7)) & 1 ? 0xffffffff : 0))

function zeroPruned(words: Uint32Array, { rows, cols, bits }: MaskLinear): void {
  const width = rowBytes(cols)
  for (let row = 0; row < rows; row++) {
    const first = row * cols
    for (let byte = 0; byte < width; byte++) {
      const keep = (bits[row * width + byte] as number) * 8
      const at = first + byte * 8
      const count = Math.min(8, cols - byte * 8)
      for (let i = 0; i < count; i++) words[at + i] = (words[at + i] as number) & (KEEP[keep + i] as number)
    }
  }
}

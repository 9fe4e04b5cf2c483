import { bfloatsToFloats, bytesToFloats, halfToFloat, halvesToFloats } from './float-formats.ts'

/** A GGML storage type: values and bytes per block, and how to decode a block. */
export interface GgmlType {
  name: string
  blockValues: number
  blockBytes: number
  /** Whole blocks to f32. The layouts and formulas are those of GGML's `ggml-common.h` and `ggml-quants.c`. */
  dequantise(bytes: Uint8Array): Float32Array
}

/** The supported storage types by their number in a GGUF file. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, { name: 'F32', blockValues: 1, blockBytes: 4, dequantise: bytesToFloats }],
  [1, { name: 'F16', blockValues: 1, blockBytes: 2, dequantise: halvesToFloats }],
  [2, { name: 'Q4_0', blockValues: 32, blockBytes: 18, dequantise: dequantiseQ4_0 }],
  [3, { name: 'Q4_1', blockValues: 32, blockBytes: 20, dequantise: dequantiseQ4_1 }],
  [8, { name: 'Q8_0', blockValues: 32, blockBytes: 34, dequantise: dequantiseQ8_0 }],
  [12, { name: 'Q4_K', blockValues: 256, blockBytes: 144, dequantise: dequantiseQ4_K }],
  [14, { name: 'Q6_K', blockValues: 256, blockBytes: 210, dequantise: dequantiseQ6_K }],
  [30, { name: 'BF16', blockValues: 1, blockBytes: 2, dequantise: bfloatsToFloats }],
])

/** `w = d (q − 8)`: half scale, then 16 bytes, low nibbles the first 16 values. */
function dequantiseQ4_0(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / 18) * 32)
  for (let at = 0, out = 0; at < bytes.length; at += 18, out += 32) {
    const d = half(bytes, at)
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 2 + i]!
      values[out + i] = d * ((pair & 0xf) - 8)
      values[out + 16 + i] = d * ((pair >> 4) - 8)
    }
  }
  return values
}

/** `w = d q + m`: half scale, half minimum, then nibbles as in Q4_0. */
function dequantiseQ4_1(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / 20) * 32)
  for (let at = 0, out = 0; at < bytes.length; at += 20, out += 32) {
    const d = half(bytes, at)
    const m = half(bytes, at + 2)
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 4 + i]!
      values[out + i] = d * (pair & 0xf) + m
      values[out + 16 + i] = d * (pair >> 4) + m
    }
  }
  return values
}

/** `w = d q`: half scale, then 32 signed bytes. */
function dequantiseQ8_0(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / 34) * 32)
  for (let at = 0, out = 0; at < bytes.length; at += 34, out += 32) {
    const d = half(bytes, at)
    for (let i = 0; i < 32; i++) values[out + i] = d * ((bytes[at + 2 + i]! << 24) >> 24)
  }
  return values
}

/**
 * `w = (d s) q − (dmin m)`: a super-block of 8 groups of 32. Half d, half dmin, 12 bytes with a 6-bit
 * scale s and a 6-bit minimum m a group, 128 bytes of nibbles: each 32 bytes hold one group in their low
 * nibbles and the next in their high ones.
 */
function dequantiseQ4_K(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / 144) * 256)
  for (let at = 0, out = 0; at < bytes.length; at += 144, out += 256) {
    const d = half(bytes, at)
    const dmin = half(bytes, at + 2)
    for (let group = 0; group < 8; group++) {
      const scale = d * sixBits(bytes, at + 4, group, 'scale')
      const minimum = dmin * sixBits(bytes, at + 4, group, 'minimum')
      const nibbles = at + 16 + (group >> 1) * 32
      const shift = (group & 1) * 4
      for (let i = 0; i < 32; i++) {
        values[out + group * 32 + i] = scale * ((bytes[nibbles + i]! >> shift) & 0xf) - minimum
      }
    }
  }
  return values
}

/**
 * The 6-bit scales or minima of a Q4_K super-block, packed in 12 bytes from `base`. Groups 0 to 3 lie in
 * the low six bits of bytes 0 to 3 (scales) and 4 to 7 (minima); of groups 4 to 7 the low four bits are in
 * bytes 8 to 11 (scale in the low nibble, minimum in the high), the upper two on top of groups 0 to 3.
 */
function sixBits(bytes: Uint8Array, base: number, group: number, kind: 'scale' | 'minimum'): number {
  const own = base + (kind === 'scale' ? 0 : 4)
  if (group < 4) return bytes[own + group]! & 63
  const low = (bytes[base + 4 + group]! >> (kind === 'scale' ? 0 : 4)) & 0xf
  return low | ((bytes[own + group - 4]! >> 6) << 4)
}

/**
 * `w = d s (q − 32)`: a super-block of 16 groups of 16. 128 bytes with the low four bits, 64 with the
 * upper two, 16 signed scales, half d. Each half of 128 values is four runs of 32 that share bytes.
 */
function dequantiseQ6_K(bytes: Uint8Array): Float32Array {
  const values = new Float32Array((bytes.length / 210) * 256)
  for (let at = 0, out = 0; at < bytes.length; at += 210, out += 256) {
    const d = half(bytes, at + 208)
    for (let run = 0; run < 8; run++) {
      const low = at + (run >> 2) * 64 + (run & 1) * 32
      const lowShift = (run & 2) * 2
      const high = at + 128 + (run >> 2) * 32
      const highShift = (run & 3) * 2
      for (let i = 0; i < 32; i++) {
        const scale = (bytes[at + 192 + run * 2 + (i >> 4)]! << 24) >> 24
        const q = ((bytes[low + i]! >> lowShift) & 0xf) | (((bytes[high + i]! >> highShift) & 3) << 4)
        values[out + run * 32 + i] = d * scale * (q - 32)
      }
    }
  }
  return values
}

function half(bytes: Uint8Array, at: number): number {
  return halfToFloat(bytes[at]! | (bytes[at + 1]! << 8))
}

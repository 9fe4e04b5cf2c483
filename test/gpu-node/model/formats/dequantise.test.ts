import { describe, expect, test } from 'vitest'
import { GGML_TYPES } from '../../../../gpu-node/src/model/formats/dequantise.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { float16Bits } from '../../../support/models/safetensors-writer.ts'

/** Returns a byte as a signed number (two's complement). */
const signed = (byte: number) => (byte > 127 ? byte - 256 : byte)

/** Returns the value of a half-precision number from its bit fields, in f64. */
function half(bytes: Uint8Array, at: number): number {
  const [low, high] = [bytes[at]!, bytes[at + 1]!]
  const exponent = (high & 0x7f) >> 2
  const fraction = ((high & 3) << 8) | low
  const magnitude = exponent === 0 ? fraction / 2 ** 24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return high > 127 ? -magnitude : magnitude
}

/** Returns bits `[from, from + count)` of a byte. */
const bits = (byte: number, from: number, count: number) => Math.floor(byte / 2 ** from) % 2 ** count

/** Returns the six-bit number of a Q4_K group, by the diagram of the 12 bytes in ggml-quants.c. */
function q4kNumber(packed: Uint8Array, group: number, minimum: boolean): number {
  const first = minimum ? 4 : 0
  if (group < 4) return bits(packed[first + group]!, 0, 6)
  const low = bits(packed[8 + group - 4]!, minimum ? 4 : 0, 4)
  return low + 16 * bits(packed[first + group - 4]!, 6, 2)
}

/** Returns value `i` of a block in f64, by the format's definition. */
const FORMULAS: Record<string, (block: Uint8Array, i: number) => number> = {
  Q4_0: (b, i) => half(b, 0) * (bits(b[2 + (i % 16)]!, i < 16 ? 0 : 4, 4) - 8),
  Q4_1: (b, i) => half(b, 0) * bits(b[4 + (i % 16)]!, i < 16 ? 0 : 4, 4) + half(b, 2),
  Q8_0: (b, i) => half(b, 0) * signed(b[2 + i]!),
  Q4_K: (b, i) => {
    const group = Math.floor(i / 32)
    const packed = b.subarray(4, 16)
    const q = bits(b[16 + 32 * Math.floor(i / 64) + (i % 32)]!, group % 2 === 0 ? 0 : 4, 4)
    return half(b, 0) * q4kNumber(packed, group, false) * q - half(b, 2) * q4kNumber(packed, group, true)
  },
  Q6_K: (b, i) => {
    const [side, within] = [Math.floor(i / 128), i % 128]
    const low = bits(b[64 * side + (within % 64)]!, within < 64 ? 0 : 4, 4)
    const high = bits(b[128 + 32 * side + (within % 32)]!, 2 * Math.floor(within / 32), 2)
    return half(b, 208) * signed(b[192 + Math.floor(i / 16)]!) * (low + 16 * high - 32)
  },
}

const quantised = [...GGML_TYPES.values()].filter(({ blockValues }) => blockValues > 1)

describe.each(quantised)('$name', (type) => {
  const { name, blockBytes, blockValues } = type

  test('equals the formula in double precision on random blocks at an odd address', () => {
    const random = createRandom(7)
    const blocks = 40
    const bytes = Uint8Array.from({ length: 1 + blocks * blockBytes }, () =>
      Math.floor(random() * 256),
    ).subarray(1)
    // Random halves may be infinite or NaN, so every block gets finite ones.
    for (let at = 0; at < bytes.length; at += blockBytes) {
      for (const place of name === 'Q6_K' ? [208] : [0, 2]) {
        if (place === 2 && (name === 'Q4_0' || name === 'Q8_0')) continue
        const scale = float16Bits((random() - 0.5) * 4)
        bytes[at + place] = scale & 0xff
        bytes[at + place + 1] = scale >> 8
      }
    }
    const values = type.dequantise(bytes)
    expect(values.length).toBe(blocks * blockValues)
    values.forEach((value, index) => {
      const block = bytes.subarray(Math.floor(index / blockValues) * blockBytes)
      expect(value).toBe(Math.fround(FORMULAS[name]!(block, index % blockValues)))
    })
  })
})

const ONE = [0x00, 0x3c]
const HALF = [0x00, 0x38]

test('Q4_0: nibble 8 is zero, the low nibbles come first', () => {
  const block = Uint8Array.of(...HALF, 0xf0, ...Array<number>(15).fill(0x88))
  const values = dequantised('Q4_0', block)
  expect(values[0]).toBe(-4)
  expect(values[16]).toBe(3.5)
  expect([...values.slice(1, 16), ...values.slice(17)].every((value) => value === 0)).toBe(true)
})

test('Q4_1: the minimum is added', () => {
  const block = Uint8Array.of(...HALF, ...ONE, 0x2f, ...Array<number>(15).fill(0))
  const values = dequantised('Q4_1', block)
  expect([values[0], values[16], values[1]]).toEqual([8.5, 2, 1])
})

test('Q8_0: bytes are signed', () => {
  const values = dequantised('Q8_0', Uint8Array.of(...HALF, 0x80, 0x7f, ...Array<number>(30).fill(0)))
  expect([values[0], values[1], values[2]]).toEqual([-64, 63.5, 0])
})

test('Q4_K: the last group reads its scale and minimum from the shared bytes', () => {
  const block = new Uint8Array(144)
  block.set([...ONE, ...ONE], 0)
  // Group 7: scale 63 and minimum 17 (low nibbles in byte 11, upper bits on top of bytes 3 and 7).
  block[4 + 3] = 0b1100_0000
  block[4 + 7] = 0b0100_0000
  block[4 + 11] = 0x1f
  block.fill(0x20, 16 + 96)
  const values = dequantised('Q4_K', block)
  expect(values.slice(224).every((value) => value === 63 * 2 - 17)).toBe(true)
  // Groups 3 and below read only the low six bits of their bytes, which are zero.
  expect(values.slice(0, 128).every((value) => value === 0)).toBe(true)
})

test('Q6_K: 32 is zero, and the upper bits of the last run are the highest ones', () => {
  const block = new Uint8Array(210)
  block.fill(1, 192, 208)
  block.set(HALF, 208)
  block[192 + 15] = 0xff
  block[64 + 32 + 31] = 0xf0
  block[128 + 32 + 31] = 0b1100_0000
  const values = dequantised('Q6_K', block)
  // Value 255: low nibble 15, upper bits 3: (63 − 32) · (−1) · 0.5.
  expect(values[255]).toBe(-15.5)
  expect(values[0]).toBe(-16)
  expect(values[254]).toBe(16)
})

function dequantised(name: string, block: Uint8Array): Float32Array {
  const type = [...GGML_TYPES.values()].find((candidate) => candidate.name === name)!
  expect(block.length).toBe(type.blockBytes)
  return type.dequantise(block)
}

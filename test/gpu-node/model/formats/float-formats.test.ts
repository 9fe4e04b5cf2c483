import { expect, test } from 'vitest'
import {
  bfloatsToFloats,
  halvesToFloats,
  halfToFloat,
} from '../../../../gpu-node/src/model/formats/float-formats.ts'
import { bfloat16Bits, float16Bits } from '../../../support/models/safetensors-writer.ts'

test.each([
  [0x3c00, 1],
  [0xc000, -2],
  [0x7bff, 65504],
  [0x0400, 2 ** -14],
  [0x0001, 2 ** -24],
  [0x03ff, 1023 * 2 ** -24],
  [0x8000, -0],
  [0x7c00, Infinity],
  [0xfc00, -Infinity],
  [0x3555, 0.333251953125],
])('half %i is %d', (bits, value) => {
  expect(halfToFloat(bits)).toBe(value)
})

test('a half with all exponent bits and a fraction is not a number', () => {
  expect(halfToFloat(0x7e01)).toBeNaN()
})

test('every finite half converts to f32 and back without change', () => {
  for (let bits = 0; bits < 0x7c00; bits++) {
    expect(float16Bits(halfToFloat(bits))).toBe(bits)
    expect(float16Bits(halfToFloat(bits | 0x8000))).toBe(bits | 0x8000)
  }
})

test('bytes are little-endian and may start at an odd address', () => {
  const odd = Uint8Array.of(9, 0x00, 0x3c, 0x00, 0xc0).subarray(1)
  expect([...halvesToFloats(odd)]).toEqual([1, -2])
  expect([...bfloatsToFloats(Uint8Array.of(9, 0x80, 0x3f, 0x49, 0xc0).subarray(1))]).toEqual([1, -3.140625])
})

test('bfloat16 keeps the upper half of an f32', () => {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(bfloat16Bits(-3.14))
  expect(bfloatsToFloats(bytes)[0]).toBe(-3.140625)
})

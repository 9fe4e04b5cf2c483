import { describe, expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { countBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import {
  checkMask,
  decodeMask,
  encodeMask,
  type Mask,
  type MaskLinear,
  type MaskMeta,
} from '@copal/shared/mask/mask-codec.ts'
import { readMaskHeader } from '@copal/shared/mask/mask-header.ts'
import { keptCounts, parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { packValues, unpackValues } from '@copal/shared/mask/packed-values.ts'
import { createRandom, normals } from '../../support/harness/random.ts'
import {
  decodeSafetensors,
  encodeSafetensors,
  type SafetensorsTensor,
} from '../../support/models/safetensors-content.ts'

const BASE = 'ab'.repeat(32)
const Q = 'model.layers.0.self_attn.q_proj.weight'
const DOWN = 'model.layers.0.mlp.down_proj.weight'
const META: MaskMeta = {
  method: 'continual-sparsegpt',
  pattern: '0.5',
  scope: 'row',
  patterns: {},
  domains: ['legal'],
  parent: null,
  created: '2026-11-25T00:00:00.000Z',
  baseSha256: BASE,
}
const TARGET = {
  baseSha256: BASE,
  shapes: new Map<string, readonly [number, number]>([
    [Q, [6, 12]],
    [DOWN, [4, 16]],
  ]),
}

/** Seeded bits of a matrix that keep exactly the count of the pattern in each group. */
function survivors(
  pattern: string,
  scope: MaskScope,
  rows: number,
  cols: number,
  random: () => number,
): Uint8Array {
  const { groups, size, kept } = keptCounts(parsePattern(pattern), scope, rows, cols)
  const bits = new Uint8Array(rows * rowBytes(cols))
  for (let group = 0; group < groups; group++) {
    const order = Array.from({ length: size }, (_, i) => ({ at: group * size + i, key: random() }))
    for (const { at } of order.sort((a, b) => a.key - b.key).slice(0, kept)) {
      const col = at % cols
      bits[Math.floor(at / cols) * rowBytes(cols) + (col >> 3)]! |= 1 << (col & 7)
    }
  }
  return bits
}

/** A seeded weights file in memory, and the f32 weights its values were packed from. */
function weightsFile(change: Partial<MaskMeta> = {}, seed = 1): Mask {
  const meta = { ...META, ...change }
  const random = createRandom(seed)
  const linears = new Map<string, MaskLinear>()
  for (const [name, [rows, cols]] of TARGET.shapes) {
    const pattern = meta.patterns[name] ?? meta.pattern
    if (pattern === 'dense') continue
    const bits = survivors(pattern, meta.scope, rows, cols, random)
    const values = packValues(name, bits, normals(random, rows * cols, 0, 1), rows, cols)
    linears.set(name, { rows, cols, bits, values })
  }
  return { meta, linears }
}

function errorOf(bytes: Uint8Array): AppError {
  try {
    checkMask(decodeMask(bytes), TARGET)
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error('it was accepted')
}

const float = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!

describe('values', () => {
  const one = Uint8Array.of(1)
  const round = (value: number) => packValues('w', one, Float32Array.of(value), 1, 1)[0]!

  test('are rounded to the nearest bfloat16, ties to even', () => {
    expect(round(1)).toBe(0x3f80)
    expect(round(-0)).toBe(0x8000)
    // Halfway between two neighbours, rounded to the even one: down, then up.
    expect(round(float(0x3f808000))).toBe(0x3f80)
    expect(round(float(0x3f818000))).toBe(0x3f82)
    expect(round(float(0x3f808001))).toBe(0x3f81)
    expect(round(float(0x3f807fff))).toBe(0x3f80)
    // The rounding carries into the exponent.
    expect(round(float(0x3fffffff))).toBe(0x4000)
    expect(round(float(0xc07fff00))).toBe(0xc080)
    // A denormal, and the largest bfloat16.
    expect(round(float(0x00010000))).toBe(1)
    expect(round(float(0x7f7f7fff))).toBe(0x7f7f)
  })

  test('are never further from their weight than half the gap to a neighbour', () => {
    for (const value of normals(createRandom(3), 5000, 0, 1)) {
      const stored = float(round(value) << 16)
      const gap = Math.abs(float((round(value) + 1) << 16) - stored)
      expect(Math.abs(stored - value)).toBeLessThanOrEqual(gap / 2)
    }
  })

  test.each([NaN, float(0x7f800001), float(0xffffffff), Infinity, -Infinity, 3.4e38])(
    '%d is rejected by row and column',
    (bad) => {
      const weights = new Float32Array(24)
      weights[14] = bad
      expect(() => packValues('w', Uint8Array.of(0, 0, 0b100, 0), weights, 2, 12)).toThrow(
        "tensor 'w' row 1 column 2",
      )
      // A pruned weight may be anything.
      expect([...packValues('w', Uint8Array.of(1, 0, 0, 0), weights, 2, 12)]).toEqual([0])
    },
  )

  test('pack and unpack to the rounded weights where kept, and to 0 elsewhere', () => {
    for (const [seed, rows, cols] of [
      [1, 5, 13],
      [2, 3, 8],
      [3, 1, 1],
      [4, 7, 64],
    ] as const) {
      const random = createRandom(seed)
      const weights = normals(random, rows * cols, 0, 1)
      const bits = survivors('0.3', 'matrix', rows, cols, random)
      const values = packValues('w', bits, weights, rows, cols)
      expect(values.length).toBe(countBits(bits))
      const words = new Uint32Array(rows * cols).fill(0xffffffff)
      unpackValues(bits, values, rows, cols, words)
      for (const [i, word] of words.entries()) {
        const col = i % cols
        const kept = (bits[Math.floor(i / cols) * rowBytes(cols) + (col >> 3)]! >> (col & 7)) & 1
        const alone = packValues('w', one, weights.subarray(i, i + 1), 1, 1)[0]!
        expect(word).toBe(kept ? (alone << 16) >>> 0 : 0)
      }
    }
  })
})

test.each<[string, Partial<MaskMeta>]>([
  ['per row', {}],
  ['per matrix', { scope: 'matrix', pattern: '0.37' }],
  ['2:4', { pattern: '2:4' }],
  ['with patterns of their own', { patterns: { [DOWN]: '4:8', [Q]: '0.25' } }],
  ['with a linear left dense', { patterns: { [Q]: 'dense' }, parent: 'cd'.repeat(32) }],
])('a weights file %s survives the round trip bit by bit, also where memory is not aligned', (_, change) => {
  const original = weightsFile(change)
  const bytes = encodeMask(original)
  const shifted = new Uint8Array(bytes.length + 1)
  shifted.set(bytes, 1)
  for (const stored of [bytes, shifted.subarray(1)]) {
    const back = decodeMask(stored)
    expect(back).toEqual(original)
    checkMask(back, TARGET)
    expect(encodeMask(back)).toEqual(bytes)
  }
  // Views of a Buffer are Buffers: another class with the same bytes.
  const ofBuffer = decodeMask(Buffer.from(shifted.buffer, 1))
  for (const [name, { values }] of original.linears)
    expect(ofBuffer.linears.get(name)!.values).toEqual(values)
})

test('the file has the documented bytes: values first, row by row, under the name of their weight', () => {
  const linear = {
    rows: 2,
    cols: 4,
    bits: Uint8Array.of(0b1001, 0b0110),
    values: Uint16Array.of(0x3f80, 0x4000, 0x4040, 0xc080),
  }
  const bytes = encodeMask({ meta: META, linears: new Map([['w', linear]]) })
  const headerBytes = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, headerBytes))) as Record<
    string,
    object
  >
  expect(header['w.values']).toEqual({ dtype: 'BF16', shape: [4], data_offsets: [0, 8] })
  expect(header['w']).toEqual({ dtype: 'U8', shape: [2, 1], data_offsets: [8, 10] })
  expect(header['__metadata__']).toMatchObject({ format: 'copal-weights', format_version: '1' })
  expect([...bytes.subarray(headerBytes)]).toEqual([
    0x80, 0x3f, 0x00, 0x40, 0x40, 0x40, 0x80, 0xc0, 0b1001, 0b0110,
  ])
})

test('the header says the kind of the file', () => {
  const mask = weightsFile()
  expect(readMaskHeader(encodeMask(mask)).kind).toBe('weights')
  const bare = new Map([...mask.linears].map(([name, { rows, cols, bits }]) => [name, { rows, cols, bits }]))
  expect(readMaskHeader(encodeMask({ meta: mask.meta, linears: bare })).kind).toBe('mask')
  bare.set(Q, mask.linears.get(Q)!)
  expect(() => encodeMask({ meta: mask.meta, linears: bare })).toThrow(`'${DOWN}' has no values`)
})

const replace =
  (name: string, change: (tensor: SafetensorsTensor) => Partial<SafetensorsTensor>) =>
  (_: unknown, tensors: Map<string, SafetensorsTensor>) => {
    const tensor = tensors.get(name)!
    tensors.set(name, { ...tensor, ...change(tensor) })
  }

test.each<
  [string, (metadata: Record<string, string>, tensors: Map<string, SafetensorsTensor>) => unknown, string]
>([
  ['no values for a linear', (_, tensors) => tensors.delete(`${Q}.values`), `'${Q}.values' is missing`],
  [
    'values without their linear',
    (_, tensors) => tensors.delete(DOWN),
    `'${DOWN}.values' has values, but this file has no linear for them`,
  ],
  [
    'values under another name',
    (_, tensors) => tensors.set('x', { dtype: 'BF16', shape: [0], data: new Uint8Array() }),
    "'x' has values, but this file has no linear",
  ],
  [
    'a value too few',
    replace(`${Q}.values`, ({ data }) => ({ shape: [35], data: data.subarray(2) })),
    `'${Q}' keeps 36 weights, but has 35 values`,
  ],
  [
    'values as a matrix',
    replace(`${Q}.values`, () => ({ shape: [6, 6] })),
    `'${Q}.values' is BF16 [6, 6], expected BF16 [kept weights]`,
  ],
  ['values of another type', replace(`${Q}.values`, () => ({ dtype: 'F16' })), `'${Q}.values' is F16 [36]`],
  [
    'a NaN',
    replace(`${DOWN}.values`, ({ data }) => ({ data: Uint8Array.of(0xc0, 0x7f, ...data.subarray(2)) })),
    `value 0 of tensor '${DOWN}' is not finite`,
  ],
  [
    'an infinity',
    replace(`${DOWN}.values`, ({ data }) => ({ data: Uint8Array.of(...data.subarray(2), 0x80, 0xff) })),
    `value 31 of tensor '${DOWN}' is not finite`,
  ],
  [
    'values in a file of the kind mask',
    (metadata) => (metadata['format'] = 'copal-mask'),
    `'${DOWN}.values' is BF16 [32], expected U8`,
  ],
  [
    'patterns that are not an object',
    (metadata) => (metadata['patterns'] = '["0.5"]'),
    "'patterns' is not a JSON object",
  ],
  ['patterns that are not JSON', (metadata) => (metadata['patterns'] = '{'), "'patterns' is not JSON"],
  [
    'an invalid pattern',
    (metadata) => (metadata['patterns'] = `{"${Q}":"half"}`),
    "'half' is not a sparsity",
  ],
  [
    'a pattern that is not a string',
    (metadata) => (metadata['patterns'] = `{"${Q}":0.5}`),
    `'${Q}' is not a pattern`,
  ],
  [
    'a pattern for a tensor it lacks',
    (metadata) => (metadata['patterns'] = '{"x":"0.5"}'),
    "has a pattern for 'x', but there is no tensor for it",
  ],
  [
    'a tensor for what it calls dense',
    (metadata) => (metadata['patterns'] = `{"${Q}":"dense"}`),
    `'${Q}' stays dense, but there is a tensor`,
  ],
  [
    'a linear called dense that the model lacks',
    (metadata) => (metadata['patterns'] = '{"x":"dense"}'),
    "names 'x', which is not a linear of this model",
  ],
  [
    'bits that do not follow the pattern of their linear',
    (metadata) => (metadata['patterns'] = `{"${DOWN}":"0.25"}`),
    `'${DOWN}' row 0 keeps 8 of 16 weights, expected 12`,
  ],
])('a weights file with %s is rejected, and the message says why', (_, change, message) => {
  const content = decodeSafetensors(encodeMask(weightsFile()))
  const metadata = { ...content.metadata }
  const tensors = new Map(content.tensors)
  change(metadata, tensors)
  const error = errorOf(encodeSafetensors({ metadata, tensors }))
  expect(error.code).toBe('mask_invalid')
  expect(error.message).toContain(message)
})

test('every truncation of a weights file is rejected', () => {
  const bytes = encodeMask(weightsFile())
  for (let length = 0; length < bytes.length; length += 5) {
    expect(errorOf(bytes.subarray(0, length)).code, `${length} bytes`).toBe('mask_invalid')
  }
})

test('a dense linear must be declared, and not all linears can be dense', () => {
  const { meta, linears } = weightsFile({ patterns: { [Q]: 'dense' } })
  checkMask({ meta, linears }, TARGET)
  expect(errorOf(encodeMask({ meta: { ...meta, patterns: {} }, linears })).message).toContain(
    `'${Q}' is missing`,
  )
  const nothing = { meta: { ...meta, patterns: { [Q]: 'dense', [DOWN]: 'dense' } }, linears: new Map() }
  expect(errorOf(encodeMask(nothing)).message).toContain('it masks no linear')
})

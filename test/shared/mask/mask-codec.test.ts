import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import {
  checkMask,
  decodeMask,
  encodeMask,
  linearChurn,
  requireDense,
  type Mask,
  type MaskLinear,
  type MaskMeta,
} from '@copal/shared/mask/mask-codec.ts'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { readMaskHeader } from '@copal/shared/mask/mask-header.ts'
import { maskSparsity } from '../../support/models/mask-figures.ts'
import {
  decodeSafetensors,
  encodeSafetensors,
  type SafetensorsTensor,
} from '../../support/models/safetensors-content.ts'

const BASE = 'ab'.repeat(32)
const Q = 'model.layers.0.self_attn.q_proj.weight'
const DOWN = 'model.layers.0.mlp.down_proj.weight'

/** Creates the mask of one linear that keeps the weights for which `keeps` returns true. */
function linear(rows: number, cols: number, keeps: (row: number, col: number) => boolean): MaskLinear {
  const width = rowBytes(cols)
  const bits = new Uint8Array(rows * width)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++)
      if (keeps(row, col)) bits[row * width + (col >> 3)]! |= 1 << (col & 7)
  }
  return { rows, cols, bits }
}

function mask(
  meta: Partial<MaskMeta> = {},
  keeps = (row: number, col: number) => (row + col) % 2 === 0,
): Mask {
  return {
    meta: {
      method: 'copal',
      pattern: '0.5',
      scope: 'row',
      patterns: {},
      domains: ['legal', 'code.eu'],
      parent: null,
      created: '2026-11-25T00:00:00.000Z',
      baseSha256: BASE,
      ...meta,
    },
    linears: new Map([
      [Q, linear(6, 12, keeps)],
      [DOWN, linear(3, 16, keeps)],
    ]),
  }
}

const target = {
  baseSha256: BASE,
  shapes: new Map<string, readonly [number, number]>([
    [Q, [6, 12]],
    [DOWN, [3, 16]],
  ]),
}

/** Returns the error of reading and checking a mask file. */
function errorOf(bytes: Uint8Array): AppError {
  try {
    checkMask(decodeMask(bytes), target)
  } catch (error) {
    if (error instanceof AppError) return error
    throw error
  }
  throw new Error('it was accepted')
}

/** Returns the file with changed metadata and tensors, encoded as a valid container. */
function altered(
  change: (metadata: Record<string, string>, tensors: Map<string, SafetensorsTensor>) => void,
): Uint8Array {
  const content = decodeSafetensors(encodeMask(mask()))
  const metadata = { ...content.metadata }
  const tensors = new Map(content.tensors)
  change(metadata, tensors)
  return encodeSafetensors({ metadata, tensors })
}

test('a mask survives the round trip, even with columns that end inside a byte', () => {
  const original = mask({ parent: 'cd'.repeat(32) })
  const bytes = encodeMask(original)
  const back = decodeMask(bytes)
  expect(back.meta).toEqual(original.meta)
  expect(Object.fromEntries(back.linears)).toEqual(Object.fromEntries(original.linears))
  checkMask(back, target)
  expect(maskSparsity(back)).toBe(0.5)
  expect(encodeMask(back)).toEqual(bytes)
})

test('the file has the documented bytes', () => {
  const one: Mask = {
    meta: mask().meta,
    linears: new Map([[Q, linear(2, 12, (row, col) => row === 1 && col === 9)]]),
  }
  const bytes = encodeMask(one)
  const headerBytes = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, headerBytes))) as Record<
    string,
    unknown
  >
  expect(header[Q]).toEqual({ dtype: 'U8', shape: [2, 2], data_offsets: [0, 4] })
  expect(header['__metadata__']).toEqual({
    format: 'copal-mask',
    format_version: '1',
    base_sha256: BASE,
    method: 'copal',
    pattern: '0.5',
    scope: 'row',
    domains: '["legal","code.eu"]',
    created: '2026-11-25T00:00:00.000Z',
    columns: JSON.stringify({ [Q]: 12 }),
  })
  expect([...bytes.subarray(headerBytes)]).toEqual([0, 0, 0, 0b10])
})

test('the insertion order of linears does not change the bytes', () => {
  const original = mask()
  const reversed: Mask = { meta: original.meta, linears: new Map([...original.linears].reverse()) }
  expect(encodeMask(reversed)).toEqual(encodeMask(original))
})

test('the metadata can be read from the header alone', () => {
  const bytes = encodeMask(mask())
  const headerBytes = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))
  expect(readMaskHeader(bytes.subarray(0, headerBytes)).meta).toEqual(mask().meta)
  expect(() => readMaskHeader(bytes.subarray(0, headerBytes - 1))).toThrow('the header takes')
})

test('a mask of another model is rejected by its base hash', () => {
  const error = errorOf(encodeMask(mask({ baseSha256: '00'.repeat(32) })))
  expect(error.code).toBe('mask_base_mismatch')
  expect(error.message).toContain(BASE)
})

const flipBit =
  (name: string, byte: number, bit: number) => (_: unknown, tensors: Map<string, SafetensorsTensor>) => {
    const tensor = tensors.get(name)!
    const data = tensor.data.slice()
    data[byte]! ^= bit
    tensors.set(name, { ...tensor, data })
  }

test.each<
  [string, (metadata: Record<string, string>, tensors: Map<string, SafetensorsTensor>) => void, string]
>([
  ['a weight too many', flipBit(DOWN, 3, 0b10), `'${DOWN}' row 1 keeps 7 of 16 weights, expected 8`],
  ['a bit after the last column', flipBit(Q, 5, 0b10000), `'${Q}' row 2 has bits set after its last column`],
  ['a missing linear', (_, tensors) => tensors.delete(DOWN), `'${DOWN}' is missing`],
  [
    'an unknown linear',
    (_, tensors) => tensors.set('lm_head.weight', tensors.get(DOWN)!),
    `'lm_head.weight' is not a linear of this model`,
  ],
  [
    'another shape',
    (_, tensors) => tensors.set(DOWN, { dtype: 'U8', shape: [6, 1], data: tensors.get(DOWN)!.data }),
    `'${DOWN}' masks [6, 8], but the weight of this model is [3, 16]`,
  ],
  [
    'another element type',
    (_, tensors) => tensors.set(DOWN, { dtype: 'I8', shape: [3, 2], data: tensors.get(DOWN)!.data }),
    `'${DOWN}' is I8 [3, 2]`,
  ],
  [
    'a shape that is not a matrix',
    (_, tensors) => tensors.set(DOWN, { dtype: 'U8', shape: [6], data: tensors.get(DOWN)!.data }),
    `'${DOWN}' is U8 [6]`,
  ],
  [
    'columns that do not fit',
    (metadata) => (metadata['columns'] = JSON.stringify({ [Q]: 20 })),
    `'${Q}' has rows of 2`,
  ],
  ['columns of no linear', (metadata) => (metadata['columns'] = '{"x":3}'), `'columns' names 'x'`],
  [
    'columns that are not a count',
    (metadata) => (metadata['columns'] = '{"x":-3}'),
    `'columns' of 'x' is not a count`,
  ],
  ['another format', (metadata) => (metadata['format'] = 'pt'), `'format' is 'pt'`],
  ['a newer version', (metadata) => (metadata['format_version'] = '2'), `'format_version' is '2'`],
  ['no method', (metadata) => delete metadata['method'], `'method' is missing`],
  ['an unknown pattern', (metadata) => (metadata['pattern'] = '50%'), `'50%' is not a sparsity pattern`],
  ['an unknown scope', (metadata) => (metadata['scope'] = 'block'), `'scope' is 'block'`],
  ['a base that is no hash', (metadata) => (metadata['base_sha256'] = 'x'), `'base_sha256' is not a SHA-256`],
  ['a parent that is no hash', (metadata) => (metadata['parent'] = 'x'), `'parent' is not a SHA-256`],
  ['domains that are no list', (metadata) => (metadata['domains'] = 'legal'), `'domains' is not JSON`],
  ['domains that are no names', (metadata) => (metadata['domains'] = '[1]'), `'domains' is not a JSON array`],
  [
    'a pattern its bits do not follow',
    (metadata) => (metadata['pattern'] = '0.25'),
    `'${DOWN}' row 0 keeps 8 of 16 weights, expected 12`,
  ],
  [
    'a pattern that does not fit',
    (metadata) => (metadata['pattern'] = '3:9'),
    `tensor '${DOWN}': 16 columns are not a multiple of 9`,
  ],
  [
    'bits that do not follow groups of four',
    (metadata) => (metadata['pattern'] = '1:4'),
    `keeps 2 of the 4 weights from column 0`,
  ],
])('a mask with %s is rejected, and the message says why', (_, change, message) => {
  const error = errorOf(altered(change))
  expect(error.code).toBe('mask_invalid')
  expect(error.message).toContain(message)
})

test('matrix scope counts over the whole matrix, n:m along the columns', () => {
  const uneven = mask({ scope: 'matrix' }, (row) => row % 2 === 0)
  uneven.linears.get(DOWN)!.bits.set([0xff, 0x0f, 0xff, 0x0f, 0, 0])
  checkMask(decodeMask(encodeMask(uneven)), target)
  const asRows = errorOf(encodeMask({ ...uneven, meta: { ...uneven.meta, scope: 'row' } }))
  expect(asRows.message).toContain(`'${DOWN}' row 0 keeps 12 of 16`)
  checkMask(decodeMask(encodeMask(mask({ pattern: '2:4' }))), target)
})

test('every truncation and every byte after the end is rejected', () => {
  const bytes = encodeMask(mask())
  for (let length = 0; length < bytes.length; length += 7) {
    expect(errorOf(bytes.subarray(0, length)).code, `${length} bytes`).toBe('mask_invalid')
  }
  const longer = new Uint8Array(bytes.length + 1)
  longer.set(bytes)
  expect(errorOf(longer).message).toContain(`but the file has ${longer.length}`)
})

test.each([
  ['not JSON', '{"a":'],
  ['not an object', '[]'],
  ['an entry that is no object', '{"a":1}'],
  ['metadata that is no string', '{"__metadata__":{"a":1}}'],
  ['an unknown dtype', '{"a":{"dtype":"F4","shape":[0],"data_offsets":[0,0]}}'],
  [
    'a dtype that is a property of every object',
    '{"a":{"dtype":"toString","shape":[0],"data_offsets":[0,0]}}',
  ],
  ['a negative size', '{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}}'],
  ['a size beyond any memory', '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'],
  ['no offsets', '{"a":{"dtype":"U8","shape":[0]}}'],
  ['offsets beyond the shape', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}}'],
  ['a gap', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}'],
])('a header with %s is rejected', (_, json) => {
  const header = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8))
  const bytes = new Uint8Array(8 + header.length)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true)
  bytes.set(header, 8)
  expect(errorOf(bytes).code).toBe('mask_invalid')
})

test('an implausibly long header is rejected before it is read', () => {
  const bytes = new Uint8Array(16)
  new DataView(bytes.buffer).setBigUint64(0, 2n ** 62n, true)
  expect(errorOf(bytes).message).toContain('its first eight bytes are not a header length')
})

test('churn counts the changed bits of a linear, and the pruned weights where the other mask leaves it dense', () => {
  const { meta, linears } = mask()
  const masked = linears.get(Q)!
  expect(linearChurn(Q, masked, masked)).toEqual({ differing: 0, all: 72 })
  const opposite = mask({}, (row, col) => (row + col) % 2 === 1).linears.get(Q)!
  expect(linearChurn(Q, masked, opposite)).toEqual({ differing: 72, all: 72 })
  const [first = 0, ...others] = masked.bits
  const changed = { ...masked, bits: Uint8Array.of(first ^ 0b11, ...others) }
  expect(linearChurn(Q, masked, changed)).toEqual({ differing: 2, all: 72 })
  expect(linearChurn(Q, masked, null)).toEqual({ differing: 36, all: 72 })
  expect(linearChurn(Q, null, masked)).toEqual({ differing: 36, all: 72 })
  expect(() => requireDense(meta, Q)).toThrow('cover different linears')
})

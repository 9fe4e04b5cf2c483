import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import {
  checkMask,
  decodeMask,
  encodeMask,
  type Mask,
  type MaskKind,
  type MaskMeta,
} from '@copal/shared/mask/mask-codec.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { packValues } from '@copal/shared/mask/packed-values.ts'
import { maskFileChurn, openMaskFile } from '../../../../gpu-node/src/model/mask-file/mask-file-reader.ts'
import { createMaskFileWriter } from '../../../../gpu-node/src/model/mask-file/mask-file-writer.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { maskChurn, maskSparsity } from '../../../support/models/mask-figures.ts'

const SHAPES = new Map<string, readonly [number, number]>([
  ['model.layers.0.self_attn.q_proj.weight', [6, 12]],
  ['model.layers.0.mlp.down_proj.weight', [4, 20]],
  ['model.layers.1.self_attn.q_proj.weight', [8, 16]],
])
const [FIRST, SECOND, THIRD] = [...SHAPES.keys()] as [string, string, string]

const META: MaskMeta = {
  method: 'continual-sparsegpt',
  pattern: '0.5',
  scope: 'row',
  patterns: {},
  domains: ['legal'],
  parent: null,
  created: '2026-11-25T00:00:00.000Z',
  baseSha256: 'ab'.repeat(32),
}

interface Linear {
  bits: Uint8Array
  weights: Float32Array
}

/** Returns seeded linears whose kept weights are drawn at random in each group of their pattern. */
function linearsOf(meta: MaskMeta, seed: number): Map<string, Linear> {
  const random = createRandom(seed)
  const linears = new Map<string, Linear>()
  for (const [name, [rows, cols]] of SHAPES) {
    const pattern = meta.patterns[name] ?? meta.pattern
    if (pattern === 'dense') continue
    const { groups, size, kept } = keptCounts(parsePattern(pattern), meta.scope, rows, cols)
    const bits = new Uint8Array(rows * rowBytes(cols))
    for (let group = 0; group < groups; group++) {
      const order = Array.from({ length: size }, (_, i) => ({ at: group * size + i, key: random() }))
      order.sort((a, b) => a.key - b.key)
      for (const { at } of order.slice(0, kept)) {
        const col = at % cols
        bits[Math.floor(at / cols) * rowBytes(cols) + (col >> 3)]! |= 1 << (col & 7)
      }
    }
    linears.set(name, { bits, weights: normals(random, rows * cols, 0, 1) })
  }
  return linears
}

function maskOf(meta: MaskMeta, linears: ReadonlyMap<string, Linear>, kind: MaskKind): Mask {
  return {
    meta,
    linears: new Map(
      [...linears].map(([name, { bits, weights }]) => {
        const [rows, cols] = SHAPES.get(name)!
        const values = kind === 'weights' ? { values: packValues(name, bits, weights, rows, cols) } : {}
        return [name, { rows, cols, bits, ...values }]
      }),
    ),
  }
}

async function write(
  dir: string,
  meta: MaskMeta,
  linears: ReadonlyMap<string, Linear>,
  kind: MaskKind,
): Promise<{ path: string; sha256: string; bytes: number; sparsity: number }> {
  const writer = await createMaskFileWriter(dir, meta, SHAPES, kind)
  for (const [name, linear] of [...linears].reverse()) await writer.add(name, linear)
  return writer.finish()
}

const variants: [string, Partial<MaskMeta>][] = [
  ['a ratio per row', {}],
  ['a ratio per matrix', { scope: 'matrix', pattern: '0.33' }],
  ['2:4', { pattern: '2:4' }],
  ['patterns of their own', { patterns: { [SECOND]: '0.25', [THIRD]: '4:8' }, parent: 'cd'.repeat(32) }],
  ['a linear left dense', { patterns: { [SECOND]: 'dense' } }],
]

test.each(
  variants.flatMap(([what, meta]) =>
    (['mask', 'weights'] as const).map((kind) => [kind, what, meta] as const),
  ),
)(
  'a %s file with %s, written linear by linear in any order, equals the encoding in memory',
  async (kind, _, change) => {
    const meta = { ...META, ...change }
    const linears = linearsOf(meta, 7)
    const dir = temporaryDir()
    const mask = maskOf(meta, linears, kind)
    const expected = encodeMask(mask)
    checkMask(decodeMask(expected), { baseSha256: meta.baseSha256, shapes: SHAPES })

    const written = await write(dir, meta, linears, kind)

    expect(readFileSync(written.path)).toEqual(Buffer.from(expected))
    const sha256 = createHash('sha256').update(expected).digest('hex')
    expect(written).toEqual({
      path: join(dir, `${sha256}.safetensors`),
      sha256,
      bytes: expected.length,
      sparsity: expect.closeTo(maskSparsity(mask, SHAPES), 12) as number,
    })
    expect(readdirSync(dir)).toEqual([`${sha256}.safetensors`])
  },
)

test('a file is read linear by linear as it was written, and its churn equals that of masks in memory', async () => {
  const dir = temporaryDir()
  const other = { ...META, patterns: { [SECOND]: 'dense' } }
  const [one, two] = [linearsOf(META, 1), linearsOf(other, 2)]
  const a = await write(dir, META, one, 'weights')
  const b = await write(dir, other, two, 'mask')
  const expected = maskOf(META, one, 'weights')

  const reader = openMaskFile(a.path)
  expect(reader.header).toMatchObject({ kind: 'weights', meta: META })
  for (const [name, linear] of expected.linears) expect(reader.read(name)).toEqual(linear)
  expect(reader.read('lm_head.weight')).toBeUndefined()
  reader.close()

  const churn = maskChurn(expected, maskOf(other, two, 'mask'))
  expect(churn).toBeGreaterThan(0)
  expect(maskFileChurn(a.path, b.path)).toBe(churn)
  expect(maskFileChurn(b.path, a.path)).toBe(churn)
  expect(maskFileChurn(a.path, a.path)).toBe(0)
})

test('a damaged file of the right name and size is replaced', async () => {
  const dir = temporaryDir()
  const linears = linearsOf(META, 3)
  const whole = await write(dir, META, linears, 'mask')
  const bytes = readFileSync(whole.path)
  const damaged = Buffer.from(bytes)
  damaged[damaged.length - 1]! ^= 1
  writeFileSync(whole.path, damaged)
  await write(dir, META, linears, 'mask')
  expect(readFileSync(whole.path)).toEqual(bytes)
})

test.each<[string, Partial<Linear>, RegExp]>([
  ['a weight too many', { bits: new Uint8Array(12).fill(0x0f) }, /row 0 keeps 8 of 12 weights, expected 6/],
  ['too few bytes', { bits: new Uint8Array(11) }, /has 11 bytes/],
  ['a NaN', { weights: new Float32Array(72).fill(NaN) }, /q_proj.weight' row 0 column \d+ is NaN/],
  ['an infinity', { weights: new Float32Array(72).fill(-Infinity) }, /is -Infinity/],
  ['a value beyond bfloat16', { weights: new Float32Array(72).fill(3.4e38) }, /is not finite in bfloat16/],
])('a linear with %s is an error that names it, and can be added again', async (_, change, message) => {
  const linears = linearsOf(META, 4)
  const writer = await createMaskFileWriter(temporaryDir(), META, SHAPES, 'weights')
  await expect(writer.add(FIRST, { ...linears.get(FIRST)!, ...change })).rejects.toThrow(message)
  await expect(writer.finish()).rejects.toThrow(`still lacks '${FIRST}'`)
  for (const [name, linear] of linears) await writer.add(name, linear)
  await writer.finish()
})

test('adding a linear twice, and one that the mask does not have, are errors', async () => {
  const meta = { ...META, patterns: { [SECOND]: 'dense' } }
  const linears = linearsOf(META, 5)
  const dir = temporaryDir()
  const writer = await createMaskFileWriter(dir, meta, SHAPES, 'mask')
  await writer.add(FIRST, linears.get(FIRST)!)
  await expect(writer.add(FIRST, linears.get(FIRST)!)).rejects.toThrow('already written')
  await expect(writer.add(SECOND, linears.get(SECOND)!)).rejects.toThrow('no linear of this mask')
  await writer.discard()
  expect(readdirSync(dir)).toEqual([])
  await expect(writer.add(THIRD, linears.get(THIRD)!)).rejects.toThrow('discarded')
})

test.each<[string, Partial<MaskMeta>, string]>([
  ['does not fit a linear', { pattern: '4:8' }, `tensor '${FIRST}': 12 columns are not a multiple of 8`],
  ['names no linear', { patterns: { 'lm_head.weight': '0.5' } }, "'lm_head.weight', which is not a linear"],
  [
    'leaves everything dense',
    { patterns: Object.fromEntries([...SHAPES.keys()].map((name) => [name, 'dense'])) },
    'nothing to mask',
  ],
])('a pattern that %s is an error before anything is written', async (_, change, message) => {
  const dir = join(temporaryDir(), 'masks')
  mkdirSync(dir)
  await expect(createMaskFileWriter(dir, { ...META, ...change }, SHAPES, 'mask')).rejects.toThrow(message)
  expect(readdirSync(dir)).toEqual([])
})

test('a full disk is an error that says so and leaves no files', async () => {
  const dir = temporaryDir()
  const linears = linearsOf(META, 6)
  let room = encodeMask(maskOf(META, linears, 'weights')).length - 1
  /** Returns files on a disk with the given free space. */
  const onFullDisk: typeof open = async (...args) => {
    const file = await open(...args)
    const unlimited = file.write.bind(file) as (...args: unknown[]) => Promise<{ bytesWritten: number }>
    const limited = async (bytes: Uint8Array, offset: number, length: number, position: number) => {
      room -= length
      if (room < 0)
        throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
      return unlimited(bytes, offset, length, position)
    }
    return Object.assign(file, { write: limited })
  }
  const writer = await createMaskFileWriter(dir, META, SHAPES, 'weights', onFullDisk)
  const added = (async () => {
    for (const [name, linear] of linears) await writer.add(name, linear)
  })()
  await expect(added).rejects.toMatchObject({
    code: 'internal_error',
    message: `No disk space left in ${dir} for a mask file of 1 MB. Free some, or set COPAL_HOME to a larger disk.`,
  })
  expect(readdirSync(dir)).toEqual([])
})

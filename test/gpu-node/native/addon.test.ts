import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { buildNative } from '../../../infra/local/build-native.mjs'
import {
  addonPath,
  asAddon,
  loadNative,
  loadNativeIfThere,
  NativeUnavailableError,
} from '../../../gpu-node/src/platform/native-addon.ts'
import type {
  Addon,
  AddonErrorCode,
  EngineStep,
  LinearName,
  LinearPlace,
  PackOptions,
  Precision,
  WeightSource,
} from '../../../gpu-node/native/addon.d.ts'
import { BLOCK_LINEARS } from '../../../gpu-node/src/model/config/llama-config.ts'
import { TINY_NATIVE_ENGINE } from '../../support/engine/tiny-native-engine.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { skipWithoutAddon } from '../../support/harness/skip-without-addon.ts'
import { createRandom, normals } from '../../support/harness/random.ts'

/** A weight of two rows and two columns, all zeros. */
const TWO_BY_TWO: PackOptions = {
  weights: new Float32Array(4),
  rows: 2,
  cols: 2,
  mask: null,
  precision: 'bf16',
  group: 64,
}

// Where there is cargo the addon is built here and every test runs. Where there is none, what is left to
// test is that the loader says so.
const built = await buildNative((line) => process.stderr.write(`${line}\n`))
if (built === 'no-cargo') testWithoutAddon()
else testAddon(loadNative())

function testWithoutAddon(): void {
  skipWithoutAddon('what the addon does')
  test('without cargo the loader says what it tried and how to build', () => {
    expect(() => loadNative()).toThrow(/it is not built.*build-native\.mjs.*needs cargo/)
    expect(loadNativeIfThere()).toBeUndefined()
  })
}

function testAddon(addon: Addon): void {
  const FORMATS: [Precision, 64 | 32][] = [
    ['bf16', 64],
    ['int8', 64],
    ['int8', 32],
    ['int4', 64],
    ['int4', 32],
  ]

  test.each(addon.kernels())(
    '%s multiplies dense and pruned weights within their precision',
    async (kernel) => {
      const [rows, cols, tokens] = [70, 203, 9]
      const random = createRandom(1)
      const dense = normals(random, rows * cols, 0, 0.05)
      const mask = randomMask(random, rows, cols)
      const inputs = normals(random, tokens * cols, 0, 1)
      const multiplier = new addon.Multiplier({ kernel, threads: 2, maxTokens: tokens, maxCols: cols })
      expect(multiplier.kernel).toBe(kernel)
      for (const [precision, group] of FORMATS) {
        for (const kept of [null, mask]) {
          const matrix = await addon.pack({ weights: dense, rows, cols, mask: kept, precision, group })
          const outputs = new Float32Array(tokens * rows)
          multiplier.multiply(matrix, inputs, outputs)
          const error = relativeError(outputs, product(dense, kept, rows, cols, inputs))
          expect(error, `${precision}-${group}`).toBeLessThan(
            { bf16: 0.005, int8: 0.02, int4: 0.15 }[precision],
          )
        }
      }
    },
  )

  test('a matrix says how many weights survive and what it reads', async () => {
    const random = createRandom(2)
    const [rows, cols] = [64, 128]
    const mask = randomMask(random, rows, cols)
    const kept = mask.reduce((sum, byte) => sum + byte.toString(2).replaceAll('0', '').length, 0)
    const matrix = await addon.pack({
      weights: normals(random, rows * cols, 0, 1),
      rows,
      cols,
      mask,
      precision: 'int8',
      group: 64,
    })
    const groups = (rows * cols) / 64
    expect(matrix).toMatchObject({ rows, cols, kept, bytes: kept + (rows * cols) / 8 + 2 * groups })
  })

  test('a panic in a kernel thread becomes an error, and the next call works', async () => {
    const multiplier = new addon.Multiplier({ threads: 2, maxTokens: 1, maxCols: 2 })
    for (const thread of [0, 1]) {
      expect(() => multiplier.provokePanic(thread)).toThrow(
        expect.objectContaining({
          code: 'Panicked',
          message: expect.stringContaining(`provoked on thread ${thread}`),
        }),
      )
    }
    const matrix = await addon.pack({ ...TWO_BY_TWO, weights: Float32Array.of(1, 2, 3, 4) })
    const outputs = new Float32Array(2)
    multiplier.multiply(matrix, Float32Array.of(1, 1), outputs)
    expect([...outputs]).toEqual([3, 7])
  })

  test('a kernel that does not exist is an error that lists the known ones', () => {
    expect(() => new addon.Multiplier({ kernel: 'sse9', threads: 1, maxTokens: 1, maxCols: 1 })).toThrow(
      `unknown kernel 'sse9'; there are amx, avx512bf16, avx512vbmi2, avx512vnni, avx512, avx2, neondot, neon, scalar, and this machine runs ${addon.kernels().join(', ')}`,
    )
  })

  test('arguments that do not fit are errors that say why', async () => {
    const invalid = (message: string) =>
      expect.objectContaining({ code: 'InvalidArg', message: expect.stringContaining(message) })
    const pack = (changes: object) => addon.pack({ ...TWO_BY_TWO, ...changes })
    await expect(pack({})).resolves.toBeDefined()
    await expect(pack({ cols: 3 })).rejects.toEqual(invalid('there are 4'))
    await expect(pack({ mask: new Uint8Array(3) })).rejects.toEqual(invalid('the mask has 3 bytes'))
    await expect(pack({ mask: Uint8Array.of(3, 4) })).rejects.toEqual(invalid('row 1 of the mask'))
    await expect(pack({ weights: Float32Array.of(0, 0, 0, Number.NaN), precision: 'int8' })).rejects.toEqual(
      invalid('row 1, column 1 is NaN'),
    )
    expect(() => pack({ precision: 'int7' })).toThrow(invalid('there are: bf16, int8, int4'))
    expect(() => pack({ precision: 'int4', group: 48 })).toThrow(invalid('groups of 64 or 32'))
    expect(() => pack({ rows: 1.5 })).toThrow(invalid('rows must be a whole number'))
    expect(() => pack({ rows: '2' })).toThrow(invalid('rows must be a number'))
    expect(() => pack({ precision: undefined })).toThrow(invalid('precision must be a string'))
    expect(() => pack({ weights: new Float64Array(4) })).toThrow(invalid('weights must be a Float32Array'))
    expect(() => pack({ weights: [0, 0, 0, 0] })).toThrow(invalid('weights must be a Float32Array'))
    for (const options of [undefined, null, 3, 'x'])
      expect(() => addon.pack(options as never)).toThrow(invalid('the argument must be an object'))

    const multiplier = new addon.Multiplier({ threads: 1, maxTokens: 1, maxCols: 2 })
    const matrix = await addon.pack(TWO_BY_TWO)
    const memory = new Float32Array(3)
    expect(() => multiplier.multiply(matrix, new Float32Array(3), new Float32Array(2))).toThrow('2 columns')
    expect(() => multiplier.multiply(matrix, new Float32Array(4), new Float32Array(4))).toThrow('room for 1')
    expect(() => multiplier.multiply(matrix, new Float32Array(2), new Float32Array(1))).toThrow('1 outputs')
    expect(() => multiplier.multiply(matrix, memory.subarray(0, 2), memory.subarray(1))).toThrow(
      'share memory',
    )
    for (const [maxTokens, maxCols] of [
      [2 ** 28, 1],
      [2 ** 20, 2 ** 20],
    ] as const)
      expect(() => new addon.Multiplier({ threads: 1, maxTokens, maxCols })).toThrow('more than a gigabyte')
    expect(() => multiplier.timePass([matrix], 2 ** 28)).toThrow('room for 1')
    expect(() => multiplier.multiply({} as never, new Float32Array(2), new Float32Array(2))).toThrow(
      expect.objectContaining({ code: 'InvalidArg' }),
    )
  })

  test('arrays may be given away while the matrix is packed', async () => {
    const dense = new Float32Array(1 << 20).fill(1)
    const packing = addon.pack({ ...TWO_BY_TWO, weights: dense, rows: 1024, cols: 1024 })
    structuredClone(dense, { transfer: [dense.buffer] })
    const matrix = await packing
    const outputs = new Float32Array(1024)
    const multiplier = new addon.Multiplier({ threads: 1, maxTokens: 1, maxCols: 1024 })
    multiplier.multiply(matrix, new Float32Array(1024).fill(1), outputs)
    expect(outputs.every((output) => output === 1024)).toBe(true)
  })

  test('each property of an argument is read once, and before any array is used', async () => {
    const reads: string[] = []
    const weights = new Float32Array(4)
    const watched = new Proxy(
      { ...TWO_BY_TWO, weights },
      {
        get(target, name, receiver) {
          reads.push(String(name))
          // The last property that is read detaches the array that was read first.
          if (name === 'group') structuredClone(weights, { transfer: [weights.buffer] })
          return Reflect.get(target, name, receiver) as unknown
        },
      },
    )
    await expect(addon.pack(watched)).rejects.toMatchObject({
      code: 'InvalidArg',
      message: expect.stringContaining('there are 0') as string,
    })
    expect(reads.toSorted()).toEqual(['cols', 'group', 'mask', 'precision', 'rows', 'weights'])
  })

  test('an error that a getter throws reaches the caller', () => {
    const failure = new Error('from the getter')
    const options = {
      ...TWO_BY_TWO,
      get rows(): number {
        throw failure
      },
    }
    expect(errorOf(() => addon.pack(options))).toBe(failure)
    expect(errorOf(() => new addon.Sampler(options as never))).toMatchObject({ code: 'InvalidArg' })
  })

  describe('errors say what went wrong by their code', () => {
    const code = (expected: AddonErrorCode) => expect.objectContaining({ code: expected })

    test('of sizes', () => {
      expect(() => new addon.Engine({ ...TINY_NATIVE_ENGINE, threads: 0 })).toThrow(code('InvalidArg'))
      expect(() => new addon.Engine({ ...TINY_NATIVE_ENGINE, pages: 2 ** 25 })).toThrow(
        code('InvalidPageCount'),
      )
      expect(() => new addon.Sampler({ vocabSize: 2 }).logSumExp(Float32Array.of(NaN, 1))).toThrow(
        code('InvalidLogits'),
      )
    })

    test('of files, and of weights that a getter releases', async () => {
      const masterPath = join(temporaryDir(), 'master')
      await writeFile(masterPath, new Uint8Array(4000))
      const linears = Object.fromEntries(
        BLOCK_LINEARS.map((name, i) => [name, { dense: 400 * i, mask: null }]),
      )
      const source: WeightSource = {
        masterPath,
        maskPath: null,
        embedding: 0,
        head: 0,
        finalNorm: 0,
        blocks: [{ attentionNorm: 0, mlpNorm: 0, linears: linears as Record<LinearName, LinearPlace> }],
        threads: 1,
      }
      const tiny = new addon.Engine(TINY_NATIVE_ENGINE)
      await expect(tiny.load({ ...source, masterPath: '/nowhere' })).rejects.toEqual(code('UnreadableFile'))
      await expect(tiny.load({ ...source, embedding: 4000 })).rejects.toEqual(code('UnreadableFile'))
      expect(() => tiny.load({ ...source, blocks: [] })).toThrow(code('InvalidArg'))
      const weights = await tiny.load(source)
      const step: EngineStep = {
        sequences: Float64Array.of(1),
        positions: Int32Array.of(0),
        lengths: Int32Array.of(1),
        outputs: Uint8Array.of(1),
        alternatives: Uint8Array.of(0),
        cachedLengths: Int32Array.of(0),
        pageCounts: Int32Array.of(1),
        tokens: Int32Array.of(1),
        targets: Int32Array.of(-1),
        pages: Int32Array.of(0),
        drops: new Float64Array(0),
      }
      await tiny.step(weights, step)
      await expect(tiny.step(weights, { ...step, tokens: Int32Array.of(11) })).rejects.toEqual(
        code('InvalidStep'),
      )
      let released: Promise<void> | undefined
      const releasing = {
        ...step,
        get tokens() {
          released = tiny.release(weights)
          return step.tokens
        },
      }
      expect(() => tiny.step(weights, releasing)).toThrow(code('InvalidState'))
      await released
    })

    test('of grammars, with the part that is at fault', async () => {
      const vocabulary = await addon.createVocabulary({
        bytes: Uint8Array.of(97, 98),
        lengths: Uint32Array.of(1, 1, 0),
        special: Uint8Array.of(0, 0, 1),
        endTokens: Uint32Array.of(2),
      })
      for (const [schema, expected, detail] of [
        ['{"allOf": [true, {"not": {}}]}', 'GrammarUnsupportedKeywords', "'not'"],
        ['{"type": "string", "format": "color"}', 'GrammarUnsupportedFormat', 'color'],
        ['{"$ref": "#/a"}', 'GrammarMissingRef', '#/a'],
        ['{"type": "text"}', 'GrammarInvalid', undefined],
      ] as const)
        await expect(vocabulary.compile('json_schema', schema)).rejects.toMatchObject({
          code: expected,
          ...(detail === undefined ? {} : { detail }),
        })
      const matcher = (await vocabulary.compile('json_schema', '{"type": "boolean"}')).matcher()
      await expect(matcher.advance(Int32Array.of(0), Int32Array.of())).rejects.toEqual(code('MatcherFailed'))
    })
  })

  test('a process keeps the addon that it has loaded, whatever happens to its sources', () => {
    expect(loadNative()).toBe(loadNative())
  })

  test('an addon that is built of other sources is not taken', () => {
    const hash = addon.sourceHash()
    expect(hash).toMatch(/^[0-9a-f]{64}$/)
    expect(asAddon(addon, hash)).toBe(addon)
    expect(asAddon(addon, 'f'.repeat(64))).toBe('it is built of other sources')
    expect(asAddon({}, hash)).toBe('it is built of other sources')
  })

  test('the loader tells every attempt, and takes the first that fits', () => {
    const other = new URL('../../../package.json', import.meta.url).pathname
    expect(loadNative(['/nowhere/copal.node', other, addonPath()]).sourceHash()).toBe(addon.sourceHash())
    const failure = errorOf(() => loadNative(['/nowhere/copal.node', other]))
    expect(failure).toBeInstanceOf(NativeUnavailableError)
    expect((failure as NativeUnavailableError).attempts).toEqual([
      { path: '/nowhere/copal.node', reason: 'it is not built' },
      { path: other, reason: expect.stringContaining('package.json') },
    ])
  })
}

/** About half of the weights, as a mask file has them. */
function randomMask(random: () => number, rows: number, cols: number): Uint8Array {
  const stride = Math.ceil(cols / 8)
  const mask = new Uint8Array(rows * stride)
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) {
      if (random() < 0.5) mask[row * stride + (col >> 3)]! |= 1 << (col & 7)
    }
  }
  return mask
}

/** `[tokens, rows]` in double precision. */
function product(
  dense: Float32Array,
  mask: Uint8Array | null,
  rows: number,
  cols: number,
  inputs: Float32Array,
): Float64Array {
  const stride = Math.ceil(cols / 8)
  return Float64Array.from({ length: (inputs.length / cols) * rows }, (_, index) => {
    const [row, token] = [index % rows, Math.floor(index / rows)]
    let sum = 0
    for (let col = 0; col < cols; col++) {
      const kept = mask === null || (mask[row * stride + (col >> 3)]! >> (col & 7)) & 1
      if (kept) sum += dense[row * cols + col]! * inputs[token * cols + col]!
    }
    return sum
  })
}

/** Root mean square of the error over that of what was expected. */
function relativeError(found: Float32Array, expected: Float64Array): number {
  const square = (values: Float64Array) => values.reduce((sum, value) => sum + value * value, 0)
  return Math.sqrt(square(expected.map((value, index) => value - found[index]!)) / square(expected))
}

function errorOf(action: () => unknown): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return undefined
}

import { expect, test } from 'vitest'
import type { Addon } from '../../../gpu-node/native/addon.d.ts'
import { loadNative } from '../../../gpu-node/src/platform/native-addon.ts'
import { nativeExchangeRows } from '../../../gpu-node/src/pruning/refinement/native-exchange.ts'
import { createExchangePool } from '../../../gpu-node/src/pruning/refinement/exchange-pool.ts'
import {
  minExchangeGain,
  exchangeRows,
  type ExchangeLinear,
} from '../../../gpu-node/src/pruning/refinement/exchange.ts'
import { buildNative } from '../../../infra/local/build-native.mjs'
import { skipWithoutAddon } from '../../support/harness/skip-without-addon.ts'
import { measureGradientByDefinition } from '../../support/pruning/exchange-gradient.ts'
import { randomLinear, upperTriangle } from '../../support/pruning/random-linear.ts'

// Without cargo there is nothing to compare.
const built = await buildNative((line) => process.stderr.write(`${line}\n`))
if (built === 'no-cargo') testWithoutAddon()
else testNativeExchange(loadNative())

function testWithoutAddon(): void {
  skipWithoutAddon('exchange')
  test('without cargo masks are refined in JavaScript', async () => {
    const { rows, cols, group, weights, moment, bits } = randomLinear(
      { pattern: '0.5', cols: 20, rows: 5 },
      1,
    )
    const pool = createExchangePool(1)
    const { before, after } = await pool.refine({
      rows,
      cols,
      group,
      weights: Float32Array.from(weights),
      moment: pool.unfold(upperTriangle(moment, cols), cols),
      bits,
    })
    await pool.close()
    expect(after).toBeLessThan(before)
  })
}

function testNativeExchange(addon: Addon): void {
  const cases = [
    { pattern: '0.5', cols: 16, rows: 40 },
    { pattern: '0.5', cols: 61, rows: 40 },
    { pattern: '0.7', cols: 100, rows: 40 },
    { pattern: '0.3', cols: 333, rows: 20 },
    { pattern: '0.5', cols: 576, rows: 20 },
    { pattern: '0.5', cols: 1536, rows: 5 },
    // No weight is pruned.
    { pattern: '0.0001', cols: 20, rows: 5 },
    { pattern: '2:4', cols: 16, rows: 40 },
    { pattern: '2:4', cols: 100, rows: 40 },
    { pattern: '2:4', cols: 1536, rows: 5 },
    { pattern: '4:8', cols: 72, rows: 40 },
    { pattern: '4:8', cols: 576, rows: 20 },
    { pattern: '3:8', cols: 136, rows: 20 },
    { pattern: '5:16', cols: 112, rows: 20 },
    { pattern: '30:64', cols: 64, rows: 20 },
    // Few distinct values, so that there are ties and zero weights.
    { pattern: '0.5', cols: 200, rows: 40, coarse: true },
    { pattern: '2:4', cols: 200, rows: 40, coarse: true },
    { pattern: '4:8', cols: 72, rows: 40, coarse: true },
  ]

  /** Linears before and after their refinement in JavaScript, which every kernel is compared with. */
  const refined = new Map<string, { linear: ExchangeLinear; expected: ExchangeLinear }>()

  function refinedInJavaScript(given: (typeof cases)[number], seed: number) {
    const key = JSON.stringify({ ...given, seed })
    const known = refined.get(key)
    if (known) return known
    const linear = randomLinear(given, seed)
    const expected = copyOf(linear)
    exchangeRows(expected, 0, linear.rows, minExchangeGain(linear))
    refined.set(key, { linear, expected })
    return { linear, expected }
  }

  test.each(addon.kernels().flatMap((kernel) => cases.map((given) => ({ kernel, ...given }))))(
    '$kernel refines a mask of $pattern with $cols columns as JavaScript does, to the bit',
    ({ kernel, ...given }) => {
      for (const seed of given.cols > 1000 ? [1] : [1, 2, 3]) {
        const { linear, expected } = refinedInJavaScript(given, seed)
        const found = copyOf(linear)
        nativeExchangeRows(addon, kernel)(found, 0, linear.rows, minExchangeGain(linear))
        expect(found.bits, `seed ${seed}`).toEqual(expected.bits)
        expect(found.errors, `seed ${seed}`).toEqual(expected.errors)
        expect(isSame(expected.bits, linear.bits), `seed ${seed}`).toBe(given.pattern === '0.0001')
      }
    },
  )

  test.each(addon.kernels())('%s does not change rows that keep all or no weights', (kernel) => {
    for (const group of [null, 4, 16]) {
      const linear = { ...randomLinear({ pattern: '0.5', cols: 48, rows: 3 }, 4), group }
      linear.bits.set(new Uint8Array(6).fill(255))
      linear.bits.set(new Uint8Array(6), 6)
      linear.bits.set(new Uint8Array(6).fill(0b1010_0101), 12)
      measureGradientByDefinition(linear)
      const [expected, found] = [copyOf(linear), copyOf(linear)]
      exchangeRows(expected, 0, 3, 1e-9)
      nativeExchangeRows(addon, kernel)(found, 0, 3, 1e-9)
      expect(found).toEqual(expected)
      expect(found.bits.subarray(0, 12)).toEqual(linear.bits.subarray(0, 12))
      expect(found.bits.subarray(12)).not.toEqual(linear.bits.subarray(12))
    }
  })

  test('parts of shared memory are refined separately, and no call changes rows of another part', () => {
    const given = randomLinear({ pattern: '0.5', cols: 61, rows: 24 }, 5)
    const linear = { ...given, bits: shared(given.bits), errors: shared(given.errors) }
    for (const name of ['weights', 'moment', 'gradient'] as const)
      Object.assign(linear, { [name]: shared(given[name]) })
    const expected = copyOf(given)
    const floor = minExchangeGain(given)
    const refine = nativeExchangeRows(addon)
    exchangeRows(expected, 8, 16, floor)
    refine(linear, 8, 16, floor)
    expect([...linear.bits]).toEqual([...expected.bits])
    expect([...linear.errors]).toEqual([...expected.errors])
    refine(linear, 16, 24, floor)
    refine(linear, 0, 8, floor)
    exchangeRows(expected, 0, 8, floor)
    exchangeRows(expected, 16, 24, floor)
    expect([...linear.bits]).toEqual([...expected.bits])
    expect([...linear.errors]).toEqual([...expected.errors])
  })

  test('arguments that do not fit are errors that say why', () => {
    const [weights, moment, bits] = [new Float32Array(8), new Float64Array(16), new Uint8Array(2)]
    const [gradient, errors] = [new Float64Array(8), new Float64Array(2)]
    const good = { kernel: null, cols: 4, group: null, weights, moment, bits, gradient, errors, floor: 0 }
    const changed = (changes: object) => () => addon.exchangeRows({ ...good, ...changes })
    const wrongType = (name: string) =>
      expect.objectContaining({ code: 'InvalidArg', message: expect.stringContaining(`${name} must be`) })
    addon.exchangeRows(good)
    addon.exchangeRows({ ...good, group: 2 })
    expect(changed({ kernel: 'sse9' })).toThrow("unknown kernel 'sse9'; there are amx, avx512bf16")
    expect(changed({ cols: 0 })).toThrow('cols must be a whole number from 1')
    expect(changed({ group: 3 })).toThrow("group has 3 columns; it must divide the row's 4")
    expect(changed({ group: -1 })).toThrow('group must be a whole number')
    expect(changed({ weights: new Float32Array(7) })).toThrow('weights has 7 values; with 2 rows')
    expect(changed({ moment: new Float64Array(15) })).toThrow('moment has 15 values')
    expect(changed({ bits: new Uint8Array(3) })).toThrow('bits has 3 values')
    expect(changed({ gradient: new Float64Array(9) })).toThrow('gradient has 9 values')
    expect(changed({ floor: Number.NaN })).toThrow('floor must be a number')
    expect(changed({ weights: new Float64Array(8) })).toThrow(wrongType('weights'))
    expect(changed({ bits: [0, 0] })).toThrow(wrongType('bits'))
    expect(changed({ floor: '0' })).toThrow(wrongType('floor'))
    expect(changed({ errors: gradient.subarray(2, 4) })).toThrow('errors shares memory with another array')
    expect(changed({ bits: new Uint8Array(moment.buffer, 3, 2) })).toThrow(
      'bits shares memory with another array',
    )
    expect(changed({ bits: new Uint8Array(errors.buffer, 0, 2) })).toThrow(
      'bits shares memory with another array',
    )
  })
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

function copyOf(linear: ExchangeLinear): ExchangeLinear {
  return { ...linear, bits: Uint8Array.from(linear.bits), errors: Float64Array.from(linear.errors) }
}

function shared<T extends Uint8Array | Float32Array | Float64Array>(values: T): T {
  const buffer = new SharedArrayBuffer(values.byteLength)
  const copy = new (values.constructor as new (buffer: SharedArrayBuffer) => T)(buffer)
  copy.set(values)
  return copy
}

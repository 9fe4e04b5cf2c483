import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { selectKept } from '../../../../gpu-node/src/pruning/methods/select-kept.ts'
import { createExchangePool } from '../../../../gpu-node/src/pruning/refinement/exchange-pool.ts'
import type { ExchangeRefiner } from '../../../../gpu-node/src/pruning/refinement/exchange-refiner.ts'
import {
  minExchangeGain,
  totalError,
  exchangeRows,
  type ExchangeLinear,
} from '../../../../gpu-node/src/pruning/refinement/exchange.ts'
import { accumulatedToy, bitStrings, toy, toyProblem } from '../../../support/pruning/prune-toy.ts'
import { createRandom, normals } from '../../../support/harness/random.ts'
import { measureGradientByDefinition } from '../../../support/pruning/exchange-gradient.ts'

const golden = toy.stages.flatMap(({ datasets }) =>
  ['wanda+swaps/row', 'wanda+swaps/2:4', 'copal+swaps/row'].map((key) => ({ datasets, key })),
)

test.each(golden)(
  '$key of $datasets datasets has the mask and error of the reference',
  ({ datasets, key }) => {
    const [method, where] = key.split('/') as ['wanda+swaps' | 'copal+swaps', string]
    const scored = accumulatedToy(datasets)
    const pattern = parsePattern(where === 'row' ? '0.5' : where)
    const linear = linearOf({
      ...scored,
      group: pattern.kind === 'n:m' ? pattern.group : null,
      moment: square(scored.statistic('second_moment'), scored.cols, scored.tokens),
      bits: parseMethod(method).rule.choose(toyProblem(datasets), pattern, 'row').bits,
    })
    refine(linear)
    const stage = toy.stages[datasets - 1]!
    expect(bitStrings(linear.bits, linear.rows, linear.cols)).toEqual(stage.masks[key])
    expect(Math.abs(totalError(linear.errors) / stage.error[key]! - 1)).toBeLessThan(1e-9)
  },
)

test.each(Object.keys(toy.stages[0]!.error))(
  'the error of the reference mask %s is the reference error',
  (key) => {
    const scored = accumulatedToy(1)
    const bits = new Uint8Array(scored.rows * 2)
    toy.stages[0]!.masks[key]!.forEach((row, r) =>
      row.split('').forEach((bit, col) => (bits[r * 2 + (col >> 3)]! |= Number(bit) << (col & 7))),
    )
    const moment = square(scored.statistic('second_moment'), scored.cols, scored.tokens)
    const linear = linearOf({ ...scored, group: null, moment, bits })
    measureGradientByDefinition(linear)
    expect(Math.abs(totalError(linear.errors) / toy.stages[0]!.error[key]! - 1)).toBeLessThan(1e-9)
  },
)

describe('on random linears', () => {
  const cases = [
    { pattern: '0.5', scope: 'row', cols: 100, left: 0.9 },
    { pattern: '0.7', scope: 'matrix', cols: 61, left: 0.9 },
    // No weight is pruned.
    { pattern: '0.0001', scope: 'row', cols: 20, left: 0 },
    { pattern: '2:4', scope: 'row', cols: 96, left: 0.9 },
    { pattern: '5:16', scope: 'row', cols: 112, left: 0.9 },
    { pattern: '1:64', scope: 'row', cols: 128, left: 0.9 },
    // One group per row differs from a row without groups.
    { pattern: '30:64', scope: 'row', cols: 64, left: 0.9 },
  ] as const

  test.each(cases)('$pattern: no row gets worse, and rows and groups keep their counts', (given) => {
    for (let seed = 1; seed <= 5; seed++) {
      const linear = randomLinear(given, seed)
      const { rows, cols, group } = linear
      const start = bitStrings(linear.bits, rows, cols)
      measureGradientByDefinition(linear)
      const before = Float64Array.from(linear.errors)
      refine(linear)
      const end = bitStrings(linear.bits, rows, cols)
      const tracked = Float64Array.from(linear.errors)
      measureGradientByDefinition(linear)
      for (let row = 0; row < rows; row++) {
        const exact = errorOf(linear, row)
        expect(tracked[row]! - exact, `seed ${seed}`).toBeCloseTo(0, 8)
        expect(exact, `seed ${seed}`).toBeLessThanOrEqual(before[row]! * (1 + 1e-12))
        for (let first = 0; first < cols; first += group ?? cols) {
          const last = first + (group ?? cols)
          expect(ones(end[row]!.slice(first, last))).toBe(ones(start[row]!.slice(first, last)))
        }
      }
      expect(totalError(tracked)).toBeLessThanOrEqual(given.left * totalError(before))
    }
  })

  test.each(cases)('$pattern: each exchange is the one that a search by the definition finds', (given) => {
    const linear = randomLinear(given, 11)
    const { rows, cols } = linear
    measureGradientByDefinition(linear)
    const floor = minExchangeGain(linear)
    const expected = bitStrings(linear.bits, rows, cols).map((_, row) => searched(linear, row, floor))
    exchangeRows(linear, 0, rows, floor)
    expect(bitStrings(linear.bits, rows, cols)).toEqual(expected)
  })

  test.each(cases)('$pattern: rows refined one by one equal rows refined together', (given) => {
    const together = randomLinear(given, 7)
    const apart = randomLinear(given, 7)
    const { rows } = together
    measureGradientByDefinition(together)
    exchangeRows(together, 0, rows, minExchangeGain(together))
    measureGradientByDefinition(apart)
    const floor = minExchangeGain(apart)
    for (let row = rows - 1; row >= 0; row--) exchangeRows(apart, row, row + 1, floor)
    expect(apart.bits).toEqual(together.bits)
    expect(apart.errors).toEqual(together.errors)
  })

  test('a mask that no exchange improves is unchanged', () => {
    const linear = randomLinear(cases[0], 3)
    for (let i = 0; i < 10; i++) refine(linear)
    const settled = Uint8Array.from(linear.bits)
    refine(linear)
    expect(linear.bits).toEqual(settled)
  })
})

describe('threads', () => {
  let pools: ExchangeRefiner[]
  beforeAll(() => {
    // With the addon if it is built, and without.
    pools = [createExchangePool(1), createExchangePool(3), createExchangePool(2, { native: false })]
  })
  afterAll(() => Promise.all(pools.map((pool) => pool.close())))

  test('the masks of several linears do not depend on the number of threads', async () => {
    for (const [seed, given] of [
      { pattern: '0.5', scope: 'row', cols: 96 },
      { pattern: '2:4', scope: 'row', cols: 128 },
      { pattern: '0.5', scope: 'matrix', cols: 40 },
    ].entries()) {
      const expected = randomLinear(given, seed)
      const { rows, cols, group } = expected
      measureGradientByDefinition(expected)
      const before = totalError(expected.errors)
      refine(expected)
      const gains = new Set<string>()
      for (const pool of pools) {
        const { weights, moment, bits } = randomLinear(given, seed)
        const task = {
          rows,
          cols,
          group,
          weights: Float32Array.from(weights),
          moment: pool.unfold(triangle(moment, cols), cols),
          bits,
        }
        const gain = await pool.refine(task)
        expect(Math.abs(gain.before / before - 1)).toBeLessThan(1e-12)
        expect(Math.abs(gain.after / totalError(expected.errors) - 1)).toBeLessThan(1e-12)
        gains.add(JSON.stringify(gain))
        expect(bits).toEqual(expected.bits)
      }
      expect(gains.size).toBe(1)
    }
  })

  test('after a thread has ended, current and later refinements fail instead of waiting', async () => {
    const pool = createExchangePool(2)
    const { rows, cols, group, weights, moment, bits } = randomLinear(
      { pattern: '0.5', scope: 'row', cols: 40 },
      1,
    )
    const task = {
      rows,
      cols,
      group,
      weights: Float32Array.from(weights),
      moment: pool.unfold(triangle(moment, cols), cols),
      bits,
    }
    const refusals = [pool.refine(task), pool.close()]
    await expect(Promise.all(refusals)).rejects.toThrow('ended before it was done')
    await expect(pool.refine(task)).rejects.toThrow('ended before it was done')
  })
})

function linearOf(given: Omit<ExchangeLinear, 'gradient' | 'errors'>): ExchangeLinear {
  const { rows, cols, group, weights, moment, bits } = given
  const [gradient, errors] = [new Float64Array(rows * cols), new Float64Array(rows)]
  return { rows, cols, group, weights, moment, bits, gradient, errors }
}

function refine(linear: ExchangeLinear): void {
  measureGradientByDefinition(linear)
  exchangeRows(linear, 0, linear.rows, minExchangeGain(linear))
}

/** Returns correlated inputs, one of which is always 0, and a Wanda mask. */
function randomLinear(given: { pattern: string; scope: string; cols: number }, seed: number): ExchangeLinear {
  const { cols } = given
  const rows = 37
  const random = createRandom(seed)
  const common = normals(random, 200, 0, 1)
  const inputs = Array.from({ length: 200 }, (_, token) =>
    normals(random, cols, common[token]!, 0.7).map((x, col) => (col === 5 ? 0 : x * (1 + (col % 3)))),
  )
  const moment = new Float64Array(cols * cols)
  for (const x of inputs) {
    for (let a = 0; a < cols; a++)
      for (let b = 0; b < cols; b++) moment[a * cols + b]! += (x[a]! * x[b]!) / 200
  }
  const weights = normals(random, rows * cols, 0, 1)
  const score = Float64Array.from(
    weights,
    (w, i) => Math.abs(w) * Math.sqrt(moment[(i % cols) * (cols + 1)]!),
  )
  const pattern = parsePattern(given.pattern)
  const bits = selectKept(score, rows, cols, pattern, given.scope === 'row' ? 'row' : 'matrix')
  const group = pattern.kind === 'n:m' ? pattern.group : null
  return linearOf({ rows, cols, group, weights, moment, bits })
}

/** Computes `e H eᵀ` by its definition. */
function errorOf({ cols, weights, moment, bits, rows }: ExchangeLinear, row: number): number {
  const kept = bitStrings(bits, rows, cols)[row]!
  const e = Array.from({ length: cols }, (_, col) => (kept[col] === '1' ? 0 : weights[row * cols + col]!))
  let sum = 0
  for (let a = 0; a < cols; a++) for (let b = 0; b < cols; b++) sum += e[a]! * moment[a * cols + b]! * e[b]!
  return sum
}

/** Returns the row's bits after at most 50 exchanges, each change computed from the definition of the error. */
function searched(
  { rows, cols, group, weights, moment, bits }: ExchangeLinear,
  row: number,
  floor: number,
): string {
  const kept = bitStrings(bits, rows, cols)[row]!.split('')
  const w = weights.subarray(row * cols, (row + 1) * cols)
  const h = (a: number, b: number) => moment[a * cols + b]!
  for (let round = 0; round < 50; round++) {
    const g = Array.from({ length: cols }, (_, a) =>
      kept.reduce((sum, bit, b) => (bit === '1' ? sum : sum + w[b]! * h(a, b)), 0),
    )
    let best = { change: -floor, p: -1, q: -1 }
    for (let first = 0; first < cols; first += group ?? cols) {
      const among = kept.map((_, col) => col).slice(first, first + (group ?? cols))
      const cost = (p: number) => w[p]! ** 2 * h(p, p) + 2 * w[p]! * g[p]!
      const gain = (q: number) => w[q]! ** 2 * h(q, q) - 2 * w[q]! * g[q]!
      const pair = (p: number, q: number) => cost(p) + gain(q) - 2 * w[p]! * w[q]! * h(p, q)
      const p = least(
        among.filter((col) => kept[col] === '1'),
        cost,
      )
      if (p === undefined) continue
      const q = least(
        among.filter((col) => kept[col] === '0'),
        group === null ? (col) => pair(p, col) : gain,
      )
      if (q === undefined) continue
      if (pair(p, q) < best.change) best = { change: pair(p, q), p, q }
    }
    if (best.p < 0) break
    kept[best.p] = '0'
    kept[best.q] = '1'
  }
  return kept.join('')
}

function least(columns: number[], value: (col: number) => number): number | undefined {
  return columns.reduce<number | undefined>(
    (best, col) => (best === undefined || value(col) < value(best) ? col : best),
    undefined,
  )
}

function square(upper: Float64Array, size: number, tokens: number): Float64Array {
  const full = new Float64Array(size * size)
  for (let a = 0, at = 0; a < size; a++) {
    for (let b = a; b < size; b++, at++) full[a * size + b] = full[b * size + a] = upper[at]! / tokens
  }
  return full
}

function triangle(full: Float64Array, size: number): Float64Array {
  return Float64Array.from(
    Array.from({ length: size }, (_, row) => [...full.subarray(row * size + row, (row + 1) * size)]).flat(),
  )
}

function ones(bits: string): number {
  return bits.replaceAll('0', '').length
}

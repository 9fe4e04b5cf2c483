import { expect, test } from 'vitest'
import { countBits, rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { keptCounts, parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { selectKeptPerRow } from '../../../../gpu-node/src/pruning/methods/select-kept.ts'
import { shareRows, worthQuantiles } from '../../../../gpu-node/src/pruning/selection/share-rows.ts'
import { randomProblem } from '../../../support/pruning/prune-problem.ts'

const rows = 12
const cols = 50
const problem = randomProblem(1, { rows, cols })
const rowsOf = (bits: Uint8Array) =>
  Uint32Array.from({ length: rows }, (_, row) =>
    countBits(bits, row * rowBytes(cols), (row + 1) * rowBytes(cols)),
  )

test.each(['0.1', '0.5', '0.73'])(
  'all rows together keep as many weights as %s keeps of the matrix',
  (text) => {
    const pattern = parsePattern(text)
    const sensitivity = Float32Array.from({ length: rows }, (_, row) => 1.5 ** row)
    const kept = shareRows(problem, pattern, sensitivity)
    expect(kept.reduce((sum, count) => sum + count, 0)).toBe(keptCounts(pattern, 'matrix', rows, cols).kept)
  },
)

test('with equal sensitivities Wanda keeps the same weights as with the scope matrix', () => {
  const { rule } = parseMethod('continual-wanda')
  const pattern = parsePattern('0.5')
  const keptPerRow = shareRows(problem, pattern, new Float32Array(rows).fill(3))
  const { bits } = rule.choose({ ...problem, keptPerRow }, pattern, 'row')
  expect(bits).toEqual(rule.choose(problem, pattern, 'matrix').bits)
})

test('a row with a higher sensitivity keeps more weights, whatever the unit of sensitivity', () => {
  const pattern = parsePattern('0.5')
  const even = new Float32Array(rows).fill(1)
  const plain = shareRows(problem, pattern, even)
  const more = shareRows(problem, pattern, even.with(4, 20))
  expect(more[4]).toBeGreaterThan(plain[4]!)
  expect(more.every((count, row) => row === 4 || count <= plain[row]!)).toBe(true)
  expect(
    shareRows(
      problem,
      pattern,
      even.with(4, 20).map((value) => value * 1e-6),
    ),
  ).toEqual(more)
})

test('a row with sensitivity 0 keeps some weights, and if all are 0 all rows are equal', () => {
  const kept = shareRows(problem, parsePattern('0.5'), new Float32Array(rows).fill(1).with(4, 0))
  expect(kept[4]).toBeGreaterThan(0)
  const even = shareRows(problem, parsePattern('0.5'), new Float32Array(rows).fill(1))
  expect(shareRows(problem, parsePattern('0.5'), new Float32Array(rows))).toEqual(even)
})

test('a selection keeps the given number of highest scores in each row', () => {
  const scores = Float64Array.from({ length: rows * cols }, (_, i) => (i * 7) % 31)
  const kept = Uint32Array.from({ length: rows }, (_, row) => [0, cols, 1, 17][row % 4]!)
  const bits = selectKeptPerRow(scores, rows, cols, kept)
  expect(rowsOf(bits)).toEqual(kept)
  const score = (row: number, col: number) => scores[row * cols + col]!
  for (let row = 0; row < rows; row++) {
    const isKept = (col: number) => (bits[row * rowBytes(cols) + (col >> 3)]! >> (col & 7)) & 1
    const all = Array.from({ length: cols }, (_, col) => col)
    const lowest = Math.min(...all.filter(isKept).map((col) => score(row, col)))
    const highest = Math.max(...all.filter((col) => !isKept(col)).map((col) => score(row, col)))
    expect(lowest).toBeGreaterThanOrEqual(highest)
  }
})

test('quantiles of the worth follow the definition, and those of a large linear come from a sample', () => {
  const squareNorm = Float32Array.from({ length: 700 }, (_, col) => 1 + (col % 5))
  const weights = Float32Array.from({ length: 600 * 700 }, (_, i) => Math.sin(i) * 2)
  const sensitivity = Float32Array.from({ length: 600 }, (_, row) => 1 + row)
  for (const rowCount of [3, 600]) {
    const own = sensitivity.subarray(0, rowCount)
    const mean = own.reduce((sum, value) => sum + value, 0) / own.length
    const worth = (row: number, col: number) =>
      Math.sqrt(mean * own[row]!) * weights[row * 700 + col]! ** 2 * squareNorm[col]!
    const all = Float64Array.from({ length: rowCount * 700 }, (_, i) =>
      worth(Math.floor(i / 700), i % 700),
    ).toSorted()
    const logs = all.map(Math.log)
    const found = worthQuantiles([rowCount, 700], weights, squareNorm, own)
    expect(found).toHaveLength(63)
    for (const [k, value] of found.entries()) {
      const below = logs.findIndex((one) => one >= value) / logs.length
      expect(below).toBeCloseTo((k + 1) / 64, rowCount === 3 ? 3 : 2)
    }
  }
})

import { describe, expect, test } from 'vitest'
import { parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import type { LinearProblem } from '../../../../gpu-node/src/pruning/methods/prune-rule.ts'
import { inverseFactor } from '../../../../gpu-node/src/pruning/methods/triangular-factor.ts'
import { selectKept } from '../../../../gpu-node/src/pruning/methods/select-kept.ts'
import { bitStrings } from '../../../support/pruning/prune-toy.ts'
import { randomProblem } from '../../../support/pruning/prune-problem.ts'

const { rule } = parseMethod('continual-sparsegpt')
type Matrix = number[][]

describe('SparseGPT over several blocks', () => {
  test.each<{ pattern: string; scope: MaskScope; cols: number; tokens: number }>([
    { pattern: '0.5', scope: 'matrix', cols: 300, tokens: 400 },
    { pattern: '0.5', scope: 'matrix', cols: 136, tokens: 20 },
    { pattern: '0.5', scope: 'row', cols: 300, tokens: 400 },
    { pattern: '0.75', scope: 'row', cols: 260, tokens: 20 },
    { pattern: '2:4', scope: 'row', cols: 300, tokens: 400 },
    { pattern: '4:8', scope: 'row', cols: 264, tokens: 20 },
  ])(
    '$pattern by $scope of $cols columns after $tokens tokens equals the definition in f64',
    ({ pattern, scope, cols, tokens }) => {
      const problem = randomProblem(1, { rows: 4, cols, tokens, dead: [3, 130] })
      const { bits, weights } = rule.choose(problem, parsePattern(pattern), scope)
      const expected = definition(problem, pattern, scope)
      expect(bitStrings(bits, 4, cols)).toEqual(
        expected.keep.map((row) => row.map((kept) => (kept ? '1' : '0')).join('')),
      )
      const worst = Math.max(...expected.weights.flat().map((value, i) => Math.abs(weights![i]! - value)))
      // Half a unit in the last place of the largest f32 weights, plus the difference between two ways of inverting.
      expect(worst).toBeLessThan(2e-6 * Math.max(1, ...expected.weights.flat().map(Math.abs)))
    },
  )
})

test.each(['0.5', '2:4'])('the updated weights lower the output error of their mask (%s)', (pattern) => {
  for (let seed = 1; seed <= 5; seed++) {
    const problem = randomProblem(seed, { rows: 6, cols: 140, tokens: 500 })
    const { bits, weights } = rule.choose(problem, parsePattern(pattern), 'row')
    const kept = bitStrings(bits, problem.rows, problem.cols).join('')
    const masked = problem.weights.map((weight, i) => (kept[i] === '1' ? weight : 0))
    expect(outputError(problem, weights!), `seed ${seed}`).toBeLessThan(0.8 * outputError(problem, masked))
    const smallest = selectKept(
      Float64Array.from(problem.weights, Math.abs),
      problem.rows,
      problem.cols,
      parsePattern(pattern),
      'row',
    )
    expect(bits).not.toEqual(smallest)
  }
})

describe('the inverse factor', () => {
  test.each([1, 2, 63, 64, 65, 200])('is a factor of the inverse (size %i)', (size) => {
    const { statistics } = randomProblem(2, { rows: 1, cols: size, tokens: 3 * size, dead: [] })
    const full = unfold(statistics.second_moment, size)
    const lower = Float64Array.from(full.flat(), (value, i) => (i % size <= i / size ? value : Number.NaN))
    const u = inverseFactor(lower, size)
    const scale = Math.max(...full.flat().map(Math.abs))
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < i; j++) expect(u[i * size + j]).toBe(0)
      // U H Uᵀ = U (Uᵀ U)⁻¹ Uᵀ = I
      const row = full.map((_, k) => full.reduce((sum, line, m) => sum + u[i * size + m]! * line[k]!, 0))
      for (let j = 0; j < size; j += 7) {
        const value = row.reduce((sum, r, k) => sum + r * u[j * size + k]!, 0)
        expect(Math.abs(value - (i === j ? 1 : 0)) / Math.max(1, scale * 1e-6)).toBeLessThan(1e-8)
      }
    }
  })

  test('does not exist for a matrix that is not positive definite: the error names the pivot', () => {
    expect(() => inverseFactor(Float64Array.of(1, 0, 2, 1), 2)).toThrow('pivot 0 of 2 is -3')
    expect(() => inverseFactor(Float64Array.of(Number.NaN), 1)).toThrow(RangeError)
  })
})

function unfold(triangle: Float64Array, size: number): Matrix {
  const full = Array.from({ length: size }, () => Array.from({ length: size }, () => 0))
  for (let a = 0, at = 0; a < size; a++)
    for (let b = a; b < size; b++, at++) full[a]![b] = full[b]![a] = triangle[at]!
  return full
}

/** Computes `tr(E H Eᵀ)`, where E is the difference between the dense and the given weights. */
function outputError({ rows, cols, weights, statistic }: LinearProblem, kept: Float32Array): number {
  const full = unfold(statistic('second_moment'), cols)
  let error = 0
  for (let row = 0; row < rows; row++) {
    const e = Array.from({ length: cols }, (_, col) => weights[row * cols + col]! - kept[row * cols + col]!)
    full.forEach((line, a) => line.forEach((h, b) => (error += e[a]! * h * e[b]!)))
  }
  return error
}

/** The algorithm as the paper states it, column by column, with the inverse, its Cholesky factor and immediate updates. */
function definition(problem: LinearProblem, pattern: string, scope: MaskScope) {
  const { rows, cols, tokens } = problem
  const h = unfold(problem.statistic('second_moment'), cols).map((line) => line.map((sum) => sum / tokens))
  const weights: Matrix = Array.from({ length: rows }, (_, row) => [
    ...problem.weights.subarray(row * cols, (row + 1) * cols),
  ])
  h.forEach((line, col) => {
    if (line[col] !== 0) return
    line[col] = 1
    for (const row of weights) row[col] = 0
  })
  const damping = (0.01 * h.reduce((sum, line, col) => sum + line[col]!, 0)) / cols
  h.forEach((line, col) => (line[col]! += damping))
  const lower = cholesky(inverse(h))
  const u = (row: number, col: number) => lower[col]![row]!
  const keep = weights.map((row) => row.map(() => true))
  const parsed = parsePattern(pattern)
  const score = (row: number, col: number) => (weights[row]![col]! / u(col, col)) ** 2
  const prune = (places: [row: number, col: number][], count: number) => {
    const sorted = places.toSorted((a, b) => score(...a) - score(...b))
    for (const [row, col] of sorted.slice(0, count)) keep[row]![col] = false
  }
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
  for (let col = 0; col < cols; col++) {
    const end = Math.min(col + 128, cols)
    if (parsed.kind === 'ratio' && col % 128 === 0) {
      const count = (height: number) => (end - col) * height * parsed.ratio
      const places = weights.map((_, row) => range(col, end).map((c): [number, number] => [row, c]))
      if (scope === 'matrix') prune(places.flat(), count(rows))
      else for (const row of places) prune(row, count(1))
    }
    if (parsed.kind === 'n:m' && col % parsed.group === 0) {
      weights.forEach((_, row) =>
        prune(
          range(col, col + parsed.group).map((c) => [row, c]),
          parsed.group - parsed.keep,
        ),
      )
    }
    weights.forEach((row, r) => {
      if (keep[r]![col]) return
      const error = row[col]! / u(col, col)
      for (let later = col; later < cols; later++) row[later]! -= error * u(col, later)
      row[col] = 0
    })
  }
  return { keep, weights }
}

/** Inverts by elimination with the largest pivot of each column. */
function inverse(matrix: Matrix): Matrix {
  const size = matrix.length
  const work = matrix.map((line, i) => [...line, ...line.map((_, j) => (i === j ? 1 : 0))])
  for (let col = 0; col < size; col++) {
    let best = col
    for (let row = col; row < size; row++)
      if (Math.abs(work[row]![col]!) > Math.abs(work[best]![col]!)) best = row
    ;[work[col], work[best]] = [work[best]!, work[col]!]
    const pivot = work[col]![col]!
    work[col] = work[col]!.map((value) => value / pivot)
    work.forEach((line, row) => {
      const factor = line[col]!
      if (row !== col && factor !== 0) work[row] = line.map((value, j) => value - factor * work[col]![j]!)
    })
  }
  return work.map((line) => line.slice(size))
}

function cholesky(matrix: Matrix): Matrix {
  const lower = matrix.map((line) => line.map(() => 0))
  matrix.forEach((line, i) => {
    for (let j = 0; j <= i; j++) {
      let sum = line[j]!
      for (let k = 0; k < j; k++) sum -= lower[i]![k]! * lower[j]![k]!
      lower[i]![j] = i === j ? Math.sqrt(sum) : sum / lower[j]![j]!
    }
  })
  return lower
}

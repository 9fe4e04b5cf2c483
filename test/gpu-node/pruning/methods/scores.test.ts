import { expect, test } from 'vitest'
import { parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import type { LinearProblem } from '../../../../gpu-node/src/pruning/methods/prune-rule.ts'
import { selectKept } from '../../../../gpu-node/src/pruning/methods/select-kept.ts'
import { bitStrings } from '../../../support/pruning/prune-toy.ts'
import { randomProblem } from '../../../support/pruning/prune-problem.ts'

/** Two rows and three inputs, whose Σx² are 4, 0.25 and 1. */
const small: LinearProblem = {
  name: 'small',
  rows: 2,
  cols: 3,
  weights: Float32Array.of(3, -4, 0, 1, 0, -2),
  tokens: 10,
  statistic: () => Float64Array.of(4, 0.25, 1),
}

test('RIA scores equal those computed by hand', () => {
  // Shares: of the column's sum (4, 4, 2) and the row's (7, 3); times √2, √½ and 1.
  // row 0: (3/4 + 3/7) √2 = 1.67, (4/4 + 4/7) √½ = 1.11, 0
  // row 1: (1/4 + 1/3) √2 = 0.82, 0, (2/2 + 2/3) · 1 = 1.67
  const choose = (ratio: string) =>
    bitStrings(
      parseMethod('continual-ria').rule.choose(small, parsePattern(ratio), 'matrix').bits,
      small.rows,
      small.cols,
    )
  expect(choose('0.35')).toEqual(['110', '101'])
  expect(choose('0.5')).toEqual(['110', '001'])
  expect(choose('0.67')).toEqual(['100', '001'])
  // (3/4 + 3/7) √2 = 1.6667…, (2/2 + 2/3) = 1.6666…
  expect(choose('0.84')).toEqual(['100', '000'])
})

test('NoWag-P scores equal those computed by hand', () => {
  // Column norms √10, 4, 2. Divided: row 0: 0.949, −1, 0; row 1: 0.316, 0, −1. Row norms² 1.9 and 1.1.
  // Squared and times Σx²: row 0: 0.9/1.9·4 = 1.89, 1/1.9·0.25 = 0.13, 0; row 1: 0.1/1.1·4 = 0.36, 0, 1/1.1 = 0.91
  const choose = (ratio: string) =>
    bitStrings(
      parseMethod('continual-nowag').rule.choose(small, parsePattern(ratio), 'matrix').bits,
      small.rows,
      small.cols,
    )
  expect(choose('0.35')).toEqual(['110', '101'])
  expect(choose('0.5')).toEqual(['100', '101'])
  expect(choose('0.67')).toEqual(['100', '001'])
  expect(choose('0.84')).toEqual(['100', '000'])
})

const definitions: Record<string, (problem: LinearProblem, row: number, col: number) => number> = {
  'continual-ria': (problem, row, col) => {
    const share = Math.abs(at(problem, row, col))
    const norm = Math.sqrt(problem.statistic('square_norm')[col]!)
    return (
      (share / sum(rowsOf(problem), (r) => Math.abs(at(problem, r, col))) +
        share / sum(colsOf(problem), (c) => Math.abs(at(problem, row, c)))) *
      norm ** 0.5
    )
  },
  'continual-nowag': (problem, row, col) => {
    const byColumn = (r: number, c: number) =>
      at(problem, r, c) / (Math.sqrt(sum(rowsOf(problem), (i) => at(problem, i, c) ** 2)) + 1e-5)
    const rowNorm = Math.sqrt(sum(colsOf(problem), (c) => byColumn(row, c) ** 2)) + 1e-5
    return (byColumn(row, col) / rowNorm) ** 2 * problem.statistic('square_norm')[col]!
  },
}

test.each(
  Object.keys(definitions).flatMap((name) =>
    (
      [
        ['0.5', 'row'],
        ['0.5', 'matrix'],
        ['2:4', 'row'],
      ] as [string, MaskScope][]
    ).map(([pattern, scope]) => ({ name, pattern, scope })),
  ),
)('$name by $scope, $pattern, keeps the highest scores of its formula', ({ name, pattern, scope }) => {
  for (let seed = 1; seed <= 5; seed++) {
    const problem = randomProblem(seed, { rows: 9, cols: 20 })
    const score = Float64Array.from(problem.weights, (_, i) =>
      definitions[name]!(problem, Math.floor(i / problem.cols), i % problem.cols),
    )
    const expected = selectKept(score, problem.rows, problem.cols, parsePattern(pattern), scope)
    const { bits } = parseMethod(name).rule.choose(problem, parsePattern(pattern), scope)
    expect(bits, `seed ${seed}`).toEqual(expected)
  }
})

function at({ weights, cols }: LinearProblem, row: number, col: number): number {
  return weights[row * cols + col]!
}

function rowsOf({ rows }: LinearProblem): number[] {
  return Array.from({ length: rows }, (_, row) => row)
}

function colsOf({ cols }: LinearProblem): number[] {
  return Array.from({ length: cols }, (_, col) => col)
}

function sum(indices: readonly number[], value: (index: number) => number): number {
  return indices.reduce((total, index) => total + value(index), 0)
}

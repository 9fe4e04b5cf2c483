import { describe, expect, test } from 'vitest'
import { checkLinear } from '@copal/shared/mask/check-linear.ts'
import { parsePattern, type MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { RULES } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { bitStrings } from '../../../support/pruning/prune-toy.ts'
import { randomProblem, replayed } from '../../../support/pruning/prune-problem.ts'

/** Shapes wider than SparseGPT's blocks, rows that end inside a byte, and groups that do not divide a block. */
const cases: { pattern: string; scope: MaskScope; rows: number; cols: number }[] = [
  { pattern: '0.5', scope: 'row', rows: 5, cols: 300 },
  { pattern: '0.5', scope: 'matrix', rows: 5, cols: 300 },
  { pattern: '0.37', scope: 'row', rows: 7, cols: 261 },
  { pattern: '0.37', scope: 'matrix', rows: 7, cols: 261 },
  { pattern: '0.0001', scope: 'row', rows: 3, cols: 20 },
  { pattern: '0.9999', scope: 'matrix', rows: 3, cols: 133 },
  { pattern: '2:4', scope: 'row', rows: 5, cols: 140 },
  { pattern: '4:8', scope: 'matrix', rows: 5, cols: 264 },
  { pattern: '1:3', scope: 'row', rows: 4, cols: 201 },
  { pattern: '5:12', scope: 'row', rows: 4, cols: 252 },
  { pattern: '33:64', scope: 'row', rows: 2, cols: 192 },
]

describe.each(RULES.map((rule) => ({ rule, name: rule.name })))('$name', ({ rule }) => {
  test.each(cases)(
    'keeps exactly as many weights of [$rows, $cols] as $pattern by $scope requires',
    (given) => {
      const { rows, cols, scope } = given
      const problem = randomProblem(1, given)
      const { bits, weights } = rule.choose(problem, parsePattern(given.pattern), scope)
      expect(() => checkLinear('linear', { rows, cols, bits }, given.pattern, scope)).not.toThrow()
      expect(weights !== null).toBe(rule.changesWeights)
      const kept = bitStrings(bits, rows, cols).join('')
      expect((weights ?? []).every((weight, i) => weight === 0 || kept[i] === '1')).toBe(true)
    },
  )

  test('counting the same data twice changes nothing, and the problem is not modified', () => {
    const problem = randomProblem(2, { rows: 6, cols: 150 })
    const before = structuredClone({ weights: problem.weights, ...problem.statistics })
    const once = rule.choose(problem, parsePattern('0.5'), 'row')
    expect({ weights: problem.weights, ...problem.statistics }).toEqual(before)
    expect(rule.choose(replayed(problem, 4), parsePattern('0.5'), 'row')).toEqual(once)
    // Not a power of two, so sums and means are rounded, but no two scores are that close.
    expect(rule.choose(replayed(problem, 3), parsePattern('0.5'), 'row').bits).toEqual(once.bits)
  })

  test('rows, columns and inputs that are all zeros are pruned like others', () => {
    const problem = randomProblem(3, { rows: 4, cols: 16, dead: [0, 7, 8] })
    problem.weights.fill(0, 16, 32)
    for (let at = 5; at < problem.weights.length; at += 16) problem.weights[at] = 0
    for (const pattern of ['0.5', '2:4']) {
      const { bits } = rule.choose(problem, parsePattern(pattern), 'row')
      expect(() => checkLinear('linear', { rows: 4, cols: 16, bits }, pattern, 'row')).not.toThrow()
    }
  })

  test('a second moment of fewer tokens than columns, and one of zeros, are accepted', () => {
    for (const problem of [
      randomProblem(4, { rows: 4, cols: 140, tokens: 3 }),
      randomProblem(4, { rows: 4, cols: 140, dead: Array.from({ length: 140 }, (_, col) => col) }),
    ]) {
      const { bits, weights } = rule.choose(problem, parsePattern('0.5'), 'matrix')
      expect(() => checkLinear('linear', { rows: 4, cols: 140, bits }, '0.5', 'matrix')).not.toThrow()
      expect((weights ?? []).every(Number.isFinite)).toBe(true)
    }
  })

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('weights of %s are an error', (poison) => {
    const problem = randomProblem(5, { rows: 4, cols: 16 })
    problem.weights[21] = poison
    expect(() => rule.choose(problem, parsePattern('0.5'), 'row')).toThrow(RangeError)
  })

  test('a pattern that does not divide the columns is an error', () => {
    const problem = randomProblem(6, { rows: 2, cols: 18 })
    expect(() => rule.choose(problem, parsePattern('2:4'), 'row')).toThrow('not a multiple of 4')
  })
})

test.each(RULES.filter(({ needs }) => needs.length > 0).map((rule) => ({ rule, name: rule.name })))(
  '$name: statistics that are not finite are an error',
  ({ rule }) => {
    for (const poison of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const problem = randomProblem(7, { rows: 3, cols: 12 })
      for (const sum of Object.values(problem.statistics)) sum[5] = poison
      expect(() => rule.choose(problem, parsePattern('0.5'), 'row')).toThrow(RangeError)
    }
  },
)

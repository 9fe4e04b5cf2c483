import { expect, test } from 'vitest'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'
import { bitStrings, toy, toyProblem } from '../../../support/pruning/prune-toy.ts'

/** Rules by their name in the reference. The toy's statistics are accumulated, so both rules of a pair must agree. */
const REFERENCE_RULES: Readonly<Record<string, readonly string[]>> = {
  magnitude: ['magnitude'],
  wanda: ['wanda', 'continual-wanda'],
  copal: ['copal'],
  sparsegpt: ['sparsegpt', 'continual-sparsegpt'],
}

const cases = toy.stages.flatMap(({ datasets, masks }) =>
  Object.keys(masks).flatMap((key) => {
    const [reference, where] = key.split('/') as [string, string]
    return (REFERENCE_RULES[reference] ?? []).map((rule) => ({ datasets, key, rule, where }))
  }),
)

test('the golden file has magnitude, Wanda and COPAL in four patterns, SparseGPT in three, at three stages', () => {
  expect(cases).toHaveLength(3 * (4 + 2 * 4 + 4 + 2 * 3))
})

function chosen({ datasets, rule, where }: (typeof cases)[number]) {
  const pattern = parsePattern(where.includes(':') ? where : '0.5')
  return parseMethod(rule).rule.choose(toyProblem(datasets), pattern, where === 'matrix' ? 'matrix' : 'row')
}

test.each(cases)('$rule equals the reference $key of $datasets datasets', (given) => {
  const { rows, cols } = toyProblem(1)
  expect(bitStrings(chosen(given).bits, rows, cols)).toEqual(toy.stages[given.datasets - 1]!.masks[given.key])
})

test.each(cases.filter(({ key }) => key.startsWith('sparsegpt')))(
  '$rule returns the weights of the reference $key of $datasets datasets',
  (given) => {
    const stage = toy.stages[given.datasets - 1]!
    const expected = stage[`sparsegpt_weights/${given.where}` as 'sparsegpt_weights/matrix'].flat()
    const { weights } = chosen(given)
    expect(weights).toHaveLength(expected.length)
    expect(Math.max(...expected.map((value, i) => Math.abs(weights![i]! - value)))).toBeLessThan(1e-6)
  },
)

test.each(cases.filter(({ key }) => !key.startsWith('sparsegpt')))(
  '$rule does not change the dense weights ($key of $datasets datasets)',
  (given) => {
    expect(chosen(given).weights).toBeNull()
  },
)

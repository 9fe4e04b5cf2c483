import { expect, test } from 'vitest'
import { parsePattern } from '@copal/shared/mask/pattern.ts'
import { parseMethod } from '../../../../gpu-node/src/copal/methods/registry.ts'
import { bitStrings, toy, toyProblem } from '../../../support/prune-toy.ts'

/** Rules by what the reference calls them; the toy's statistics are accumulated, so both of a pair must agree. */
const RULES: Readonly<Record<string, readonly string[]>> = {
  magnitude: ['magnitude'],
  wanda: ['wanda', 'continual-wanda'],
  copal: ['copal'],
  sparsegpt: ['sparsegpt', 'continual-sparsegpt'],
}

const cases = toy.stages.flatMap(({ datasets, masks }) =>
  Object.keys(masks).flatMap((key) => {
    const [reference, where] = key.split('/') as [string, string]
    return (RULES[reference] ?? []).map((rule) => ({ datasets, key, rule, where }))
  }),
)

test('the golden file has magnitude, Wanda and COPAL in four patterns, SparseGPT in three, at three stages', () => {
  expect(cases).toHaveLength(3 * (4 + 2 * 4 + 4 + 2 * 3))
})

test.each(cases)(
  '$rule equals the reference $key of $datasets datasets',
  ({ datasets, key, rule, where }) => {
    const problem = toyProblem(datasets)
    const pattern = parsePattern(where.includes(':') ? where : '0.5')
    const scope = where === 'matrix' ? 'matrix' : 'row'
    const { bits, weights } = parseMethod(rule).rule.choose(problem, pattern, scope)
    const stage = toy.stages[datasets - 1]!
    expect(bitStrings(bits, problem.rows, problem.cols)).toEqual(stage.masks[key])
    if (!key.startsWith('sparsegpt')) {
      expect(weights).toBeNull()
      return
    }
    const expected = stage[`sparsegpt_weights/${where}` as 'sparsegpt_weights/matrix'].flat()
    expect(weights).toHaveLength(expected.length)
    const worst = Math.max(...expected.map((value, i) => Math.abs(weights![i]! - value)))
    expect(worst).toBeLessThan(1e-6)
  },
)

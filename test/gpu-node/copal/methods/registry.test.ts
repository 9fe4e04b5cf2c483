import { expect, test } from 'vitest'
import { pruneMethod } from '@copal/shared/wire/prune-method.ts'
import { METHOD_NAMES, parseMethod, RULES } from '../../../../gpu-node/src/copal/methods/registry.ts'

test('every name is one that the wire carries, and stands for the method of that name', () => {
  expect(new Set(METHOD_NAMES).size).toBe(METHOD_NAMES.length)
  for (const name of METHOD_NAMES) {
    expect(pruneMethod.parse(name)).toBe(name)
    const { rule, allocated, swaps, reconstruct } = parseMethod(name)
    const steps = { allocated, swaps, reconstruct }
    const suffixes = Object.entries(steps).map(([step, has]) => (has ? `+${step}` : ''))
    expect(rule.name + suffixes.join('')).toBe(name)
  }
})

test('a rule is a method alone, allocated, with swaps, with reconstruction and with both; without swaps where it changes weights', () => {
  for (const { name, changesWeights } of RULES) {
    const expected = [name, `${name}+allocated`].flatMap((start) =>
      changesWeights
        ? [start, `${start}+reconstruct`]
        : [start, `${start}+swaps`, `${start}+reconstruct`, `${start}+swaps+reconstruct`],
    )
    expect(METHOD_NAMES.filter((method) => method.split('+')[0] === name)).toEqual(expected)
  }
})

test.each([
  { name: 'magnitude', datasets: 'none', needs: [], changesWeights: false },
  { name: 'magnitude+swaps', datasets: 'accumulated', needs: ['second_moment'], changesWeights: false },
  { name: 'magnitude+reconstruct', datasets: 'accumulated', needs: ['second_moment'], changesWeights: true },
  { name: 'wanda', datasets: 'newest', needs: ['square_norm'], changesWeights: false },
  {
    name: 'wanda+swaps+reconstruct',
    datasets: 'newest',
    needs: ['square_norm', 'second_moment'],
    changesWeights: true,
  },
  { name: 'copal', datasets: 'accumulated', needs: ['sensitivity'], changesWeights: false },
  { name: 'sparsegpt', datasets: 'newest', needs: ['second_moment'], changesWeights: true },
  {
    name: 'continual-sparsegpt+reconstruct',
    datasets: 'accumulated',
    needs: ['second_moment'],
    changesWeights: true,
  },
])('$name counts $datasets datasets and reads $needs', ({ name, ...expected }) => {
  expect(parseMethod(name)).toMatchObject(expected)
})

test.each([
  ['wnada', 'wanda'],
  ['continual_wanda+swaps', 'continual-wanda+swaps'],
  ['copal+reconstruct+swaps', undefined],
  ['sparsegpt+swaps', undefined],
  ['', undefined],
])('%j is refused; what was meant is %s, and all there is is listed', (name, meant) => {
  expect(() => parseMethod(name)).toThrow(
    expect.objectContaining({
      code: 'invalid_request',
      param: 'method',
      message: expect.stringContaining(METHOD_NAMES.join(', ')) as string,
    }) as Error,
  )
  const suggestion = meant === undefined ? '. The methods' : `. Did you mean '${meant}'? The methods`
  expect(() => parseMethod(name)).toThrow(meant === undefined ? /no pruning method/ : suggestion)
})

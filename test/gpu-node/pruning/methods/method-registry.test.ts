import { expect, test } from 'vitest'
import { pruneMethod } from '@copal/shared/wire/prune-method.ts'
import { METHOD_NAMES, parseMethod, RULES } from '../../../../gpu-node/src/pruning/methods/method-registry.ts'

test('the wire accepts every name, and each parses to the method of that name', () => {
  expect(new Set(METHOD_NAMES).size).toBe(METHOD_NAMES.length)
  for (const name of METHOD_NAMES) {
    expect(pruneMethod.parse(name)).toBe(name)
    const { rule, allocated, rows, swaps, reconstruct, int4 } = parseMethod(name)
    const steps = { allocated, rows, swaps, reconstruct, int4 }
    const suffixes = Object.entries(steps).map(([step, has]) => (has ? `+${step}` : ''))
    expect(rule.name + suffixes.join('')).toBe(name)
  }
})

test('each rule supports every combination of suffixes, +int4 with +reconstruct alone; rules that change weights support neither +rows nor +swaps', () => {
  for (const { name, changesWeights } of RULES) {
    const shares = changesWeights ? ['', '+allocated'] : ['', '+allocated', '+rows', '+allocated+rows']
    const refinements = changesWeights
      ? ['', '+reconstruct', '+reconstruct+int4']
      : ['', '+swaps', '+reconstruct', '+swaps+reconstruct', '+reconstruct+int4', '+swaps+reconstruct+int4']
    const expected = shares.flatMap((share) => refinements.map((refinement) => name + share + refinement))
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
  { name: 'magnitude+rows', datasets: 'accumulated', needs: ['square_norm'], changesWeights: false },
  {
    name: 'copal+rows+swaps',
    datasets: 'accumulated',
    needs: ['sensitivity', 'square_norm', 'second_moment'],
    changesWeights: false,
  },
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
  ['sparsegpt+rows', undefined],
  ['wanda+swaps+int4', undefined],
  ['', undefined],
])('%j is an error that suggests %s and lists the rules', (name, meant) => {
  expect(() => parseMethod(name)).toThrow(
    expect.objectContaining({
      code: 'invalid_request',
      param: 'method',
      message: expect.stringContaining(
        `The rules are ${RULES.map((rule) => rule.name).join(', ')}; after one may come +allocated, +rows, +swaps, +reconstruct`,
      ) as string,
    }) as Error,
  )
  const suggestion = meant === undefined ? '. The rules' : `. Did you mean '${meant}'? The rules`
  expect(() => parseMethod(name)).toThrow(meant === undefined ? /no pruning method/ : suggestion)
})

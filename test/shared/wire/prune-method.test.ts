import { expect, test } from 'vitest'
import { datasetsThatCount, methodParts, pruneMethod } from '@copal/shared/wire/prune-method.ts'

test('every rule is a method, alone and refined', () => {
  const rules = ['magnitude', 'wanda', 'continual-wanda', 'copal']
  expect(pruneMethod.options).toEqual([...rules, ...rules.map((rule) => `${rule}+swaps`)])
  for (const method of pruneMethod.options) {
    const { rule, swaps } = methodParts(method)
    expect(`${rule}${swaps ? '+swaps' : ''}`).toBe(method)
  }
})

test('only methods that restart read the newest datasets alone', () => {
  const counting = Object.fromEntries(
    pruneMethod.options.map((method) => [method, datasetsThatCount(method)]),
  )
  expect(counting).toEqual({
    magnitude: 'none',
    wanda: 'newest',
    'continual-wanda': 'accumulated',
    copal: 'accumulated',
    'magnitude+swaps': 'accumulated',
    'wanda+swaps': 'newest',
    'continual-wanda+swaps': 'accumulated',
    'copal+swaps': 'accumulated',
  })
})

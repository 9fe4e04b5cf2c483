import { expect, test } from 'vitest'
import { publishedScopeNote } from '../../../../gpu-node/lab/results/labels.ts'

const runsOf = (pattern: string, ...methods: string[]) => methods.map((method) => ({ method, pattern }))

test('the note names the rules whose published scope is the matrix', () => {
  expect(publishedScopeNote(runsOf('0.5', 'wanda', 'continual-sparsegpt+reconstruct'))).toBe(
    'sparsegpt per matrix: the weights of all rows compete, those of sparsegpt within a block of 128 columns, as published; without it those of each row do.',
  )
  expect(publishedScopeNote(runsOf('0.5', 'copal+swaps', 'wanda'))).toBe(
    'copal per matrix: the weights of all rows compete, as published; without it those of each row do.',
  )
})

test('there is no note for other rules, nor at n:m, where both scopes are the same', () => {
  expect(publishedScopeNote(runsOf('0.5', 'wanda', 'magnitude'))).toBeUndefined()
  expect(publishedScopeNote(runsOf('2:4', 'sparsegpt'))).toBeUndefined()
})

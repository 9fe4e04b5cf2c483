import { expect, test } from 'vitest'
import { suggestName } from '@copal/shared/suggest-name.ts'

const names = ['wanda', 'continual-wanda', 'copal', 'copal+swaps']

test.each([
  ['wnda', 'wanda'],
  ['wandas', 'wanda'],
  ['copal+swap', 'copal+swaps'],
  ['continual_wanda', 'continual-wanda'],
  ['copal', 'copal'],
])('%s is nearest to %s', (given, name) => {
  expect(suggestName(given, names)).toBe(name)
})

test.each(['', 'magnitude', 'wxyz'])('no name is suggested for %j', (given) => {
  expect(suggestName(given, names)).toBeUndefined()
})

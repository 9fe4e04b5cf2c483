import { expect, test } from 'vitest'
import {
  DEFAULT_POLICY,
  POLICY_VARIABLES,
  readPolicy,
} from '../../../../gateway/src/fleet/object/policy-variables.ts'

test('every field of the policy is set by its variable, and an empty variable counts as unset', () => {
  expect(readPolicy({})).toEqual(DEFAULT_POLICY)
  const names = Object.values(POLICY_VARIABLES)
  expect(readPolicy(Object.fromEntries(names.map((name) => [name, ''])))).toEqual(DEFAULT_POLICY)
  const set = readPolicy(Object.fromEntries(names.map((name, index) => [name, String(index)])))
  expect(Object.values(set)).toEqual(names.map((_, index) => index))
})

test('the error of a variable that is not a whole number names it', () => {
  expect(() => readPolicy({ COPAL_IDLE_TIMEOUT_MS: '1.5s' })).toThrow(
    "COPAL_IDLE_TIMEOUT_MS is '1.5s'; a whole number is expected, in milliseconds.",
  )
})

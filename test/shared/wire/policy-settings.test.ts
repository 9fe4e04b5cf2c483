import { expect, test } from 'vitest'
import { policyOverrides, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { policySettings, withSetting } from '@copal/shared/wire/policy-settings.ts'
import { findError } from '@copal/shared/wire/validate.ts'

test('settings are named by their part, and weights of domains are one setting', () => {
  expect(
    policySettings({ preset: 'local', statistics: { weights: { a: 2 }, half_life_days: null } }),
  ).toEqual([
    ['preset', 'local'],
    ['statistics.weights', { a: 2 }],
    ['statistics.half_life_days', null],
  ])
})

test('one setting changes and the changes of others stay', () => {
  const overrides: PolicyOverrides = { gate: { max_regression: 1.08 }, confirm: 2 }
  expect(withSetting(overrides, 'gate.max_candidates', 2)).toEqual({
    gate: { max_regression: 1.08, max_candidates: 2 },
    confirm: 2,
  })
  expect(withSetting(overrides, 'triggers.schedule', null)).toEqual({
    ...overrides,
    triggers: { schedule: null },
  })
  expect(withSetting(overrides, 'confirm', 1)).toEqual({ ...overrides, confirm: 1 })
  expect(overrides).toEqual({ gate: { max_regression: 1.08 }, confirm: 2 })
})

test('a setting that goes back to the preset leaves nothing behind', () => {
  const overrides: PolicyOverrides = { gate: { max_regression: 1.08 }, confirm: 2 }
  expect(withSetting(overrides, 'gate.max_regression', undefined)).toEqual({ confirm: 2 })
  expect(withSetting(overrides, 'confirm', undefined)).toEqual({ gate: { max_regression: 1.08 } })
  expect(withSetting(overrides, 'gate.confidence', undefined)).toEqual(overrides)
})

test('a ratio that is written as a percentage is rejected with what is expected', () => {
  const error = findError(policyOverrides, { gate: { max_regression: '5%' } })
  expect(error).toEqual({
    param: 'gate.max_regression',
    message: "invalid 'gate.max_regression': expected a ratio of at least 1: 1.05 allows 5 % more",
  })
})

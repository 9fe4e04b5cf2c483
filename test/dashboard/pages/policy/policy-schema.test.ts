import { expect, test } from 'vitest'
import { policyReport, PRESETS } from '@copal/shared/wire/admin-policy.ts'
import { readPolicySchema } from '../../../../gateway/dashboard/src/pages/policy/policy-schema.ts'

/** As the gateway puts it into its OpenAPI document. */
const Policy = policyReport.toJSONSchema({ io: 'output', reused: 'inline' })
const { settings, parts } = readPolicySchema({
  components: { schemas: JSON.parse(JSON.stringify({ Policy })) },
})

test('every setting of the policy is found with its description, and every part with its own', () => {
  const names = Object.entries(PRESETS.local).flatMap(([part, value]) =>
    typeof value === 'object' ? Object.keys(value).map((field) => `${part}.${field}`) : [part],
  )
  expect([...settings.keys()].toSorted()).toEqual(names.toSorted())
  for (const [name, { description }] of settings) expect([name, description]).not.toEqual([name, ''])
  expect(parts.get('gate')).toMatch(/^Rules that a mask must meet/)
})

test.each([
  [
    'gate.confidence',
    {
      kind: 'number',
      isWhole: false,
      min: { value: 0.5, isExclusive: false },
      max: { value: 0.9999, isExclusive: false },
    },
  ],
  [
    'canary.share',
    {
      kind: 'number',
      isWhole: false,
      min: { value: 0, isExclusive: true },
      max: { value: 0.9, isExclusive: false },
    },
  ],
  [
    'canary.min_scored_tokens',
    { kind: 'number', isWhole: true, min: { value: 0, isExclusive: false }, max: undefined },
  ],
  ['canary.enabled', { kind: 'switch' }],
  ['triggers.schedule', { kind: 'text' }],
  ['preset', { kind: 'choice', choices: ['production', 'local'] }],
  ['confirm', { kind: 'choice', choices: [1, 2, 'auto'] }],
  // Weights of single domains are an object, beside the words.
  ['statistics.weights', { kind: 'choice', choices: ['balanced', 'equal', 'traffic'] }],
])('%s takes its values', (name, values) => {
  expect(settings.get(name)).toMatchObject({ isNullable: name === 'triggers.schedule', values })
})

test('a number that may be none has its limits too', () => {
  expect(settings.get('triggers.max_gap')).toMatchObject({
    isNullable: true,
    values: { kind: 'number', min: { value: 0, isExclusive: true }, max: { value: 100, isExclusive: false } },
  })
})

test('a document without the policy has no settings', () => {
  expect(readPolicySchema({ components: { schemas: {} } }).settings.size).toBe(0)
})

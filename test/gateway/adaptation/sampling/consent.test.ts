import { expect, test } from 'vitest'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import { maySample } from '../../../../gateway/src/adaptation/sampling/consent.ts'
import { stricterPolicy } from '../../../../gateway/src/keys/sampling-policy.ts'

test.each<[SamplingPolicy, string | undefined, boolean]>([
  ['never', undefined, false],
  ['never', 'true', false],
  ['never', 'false', false],
  ['opt_in', undefined, false],
  ['opt_in', 'true', true],
  ['opt_in', 'false', false],
  ['always', undefined, true],
  ['always', 'true', true],
  ['always', 'false', false],
])('policy %s with header %s: %s', (policy, header, sampled) => {
  expect(maySample(policy, header)).toBe(sampled)
})

test.each(['True', '1', '', 'yes', ' true'])('the header %j is rejected', (header) => {
  expect(() => maySample('always', header)).toThrow("'true' or 'false' is expected")
})

test.each<[SamplingPolicy, SamplingPolicy | null, SamplingPolicy]>([
  ['always', 'never', 'never'],
  ['never', 'always', 'never'],
  ['always', 'opt_in', 'opt_in'],
  ['opt_in', 'always', 'opt_in'],
  ['always', null, 'always'],
])('a key of %s in a tenant of %s has %s', (key, tenant, effective) => {
  expect(stricterPolicy(key, tenant)).toBe(effective)
})

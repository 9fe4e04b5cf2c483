import { expect, test } from 'vitest'
import { DEFAULT_POLICY } from '../../../gateway/src/fleet/policy.ts'
import { judge } from '../../../gateway/src/inference/lease-watch.ts'

const { idleMs, firstTokenMs } = DEFAULT_POLICY
const view = { silent: false, where: 'taken', idleMs: 0, completionTokens: 5 } as const

test.each([
  ['is settled, or unknown to a fleet that was reset', undefined, 'fine'],
  ['moves', view, 'fine'],
  ['is on its way', { ...view, where: 'sent', idleMs }, 'fine'],
  ['is missing on its node', { ...view, where: 'missing' }, 'lost'],
  ['has taken no step for too long', { ...view, idleMs }, 'lost'],
  ['has a silent node', { ...view, silent: true, idleMs }, 'unheard'],
  ['still has no token', { ...view, completionTokens: 0 }, 'late'],
] as const)('a request that %s', (_, seen, verdict) => {
  expect(judge(seen, firstTokenMs, DEFAULT_POLICY)).toBe(verdict)
})

test('a request without a token is not late before its time', () => {
  expect(judge({ ...view, completionTokens: 0 }, firstTokenMs - 1, DEFAULT_POLICY)).toBe('fine')
})

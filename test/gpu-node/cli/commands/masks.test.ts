import { expect, test } from 'vitest'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const maskOf = (version: number, changes: Partial<MaskEntry>): MaskEntry => ({
  model: 'tiny',
  version,
  sha256: String(version).repeat(64),
  parent_version: null,
  method: 'wanda',
  pattern: '0.5',
  scope: 'row',
  sparsity: 0.5,
  churn: null,
  domains: ['legal'],
  bytes: 1_000,
  pinned: false,
  swept_at: null,
  active: false,
  previous: false,
  created_at: '2026-11-28T03:05:00.000Z',
  promoted_at: null,
  ...changes,
})

test('a mask that is pinned says so whatever else it is', async () => {
  const data = [
    maskOf(4, { active: true, pinned: true }),
    maskOf(3, { previous: true }),
    maskOf(2, { pinned: true }),
    maskOf(1, { swept_at: '2026-11-28T03:05:00.000Z' }),
  ]
  const { stdout } = await copal({ data }, ['masks'], { piped: true })
  expect(stdout).toMatch(/^m4 +active, pinned +wanda/m)
  expect(stdout).toMatch(/^m3 +previous +wanda/m)
  expect(stdout).toMatch(/^m2 +pinned +wanda/m)
  expect(stdout).toMatch(/^m1 +no file +wanda/m)
})

test.each(['pin', 'unpin'])('masks %s prints JSON, and offers that in its help', async (command) => {
  const entry = maskOf(3, { pinned: command === 'pin' })
  const { stdout } = await copal(entry, ['masks', command, 'm3', '--model', 'tiny', '--json'])
  expect(JSON.parse(stdout)).toEqual(entry)
  const { stdout: help } = await copal({}, ['masks', command, '--help'])
  for (const option of ['--json', '--model <id>']) expect(help).toContain(option)
})

test('a mask under trial says so beside its other roles', async () => {
  const data = [
    maskOf(6, { canary: true, shadow: true }),
    maskOf(5, { active: true, canary: false, shadow: false }),
    maskOf(4, { previous: true, shadow: true }),
  ]
  const { stdout } = await copal({ data }, ['masks'], { piped: true })
  expect(stdout).toMatch(/^m6 +canary, shadow +wanda/m)
  expect(stdout).toMatch(/^m5 +active +wanda/m)
  expect(stdout).toMatch(/^m4 +previous, shadow +wanda/m)
})

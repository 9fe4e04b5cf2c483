import { expect, test } from 'vitest'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { keysSentence } from '../../../../gateway/dashboard/src/pages/keys/key-words.ts'
import type { UsageRow } from '../../../../gateway/dashboard/src/pages/keys/usage-rows.ts'

const NOW = Date.parse('2026-11-28T02:00:00.000Z')
const keyOf = (name: string, tenant: string, expires_at: string | null = null) =>
  ({ name, tenant, expires_at }) as KeyEntry
const rowOf = (name: string, month: number, share: number | null) => ({ name, month, share }) as UsageRow

test('keys, tenants and tokens are counted, and keys near a limit or their end are named', () => {
  const keys = [keyOf('a', 'acme'), keyOf('b', 'default', '2026-11-30T02:00:00.000Z')]
  const sentence = keysSentence(keys, [rowOf('a', 1_000, 0.95), rowOf('b', 500, 0.5)], NOW)
  expect(sentence.replaceAll('\u202F', ' ')).toBe(
    '2 keys of 2 tenants, 1,500 tokens this month. a has used 95 % of its monthly limit. b expires in 2 days.',
  )
})

test('without keys nobody can send requests', () => {
  expect(keysSentence([], [], NOW)).toContain('no key yet')
})

import { expect, test } from 'vitest'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { chargeableKeys } from '../../../../gateway/dashboard/src/pages/playground/chargeable-keys.ts'

const keyOf = (name: string, ...scopes: KeyEntry['scopes']) => ({ name, scopes }) as KeyEntry
const KEYS = [
  keyOf('chat', 'inference'),
  keyOf('screen', 'read-admin'),
  keyOf('desk', 'inference', 'read-admin'),
  keyOf('desk', 'inference'),
]

test('an operator charges any key that may send requests', () => {
  const names = chargeableKeys(KEYS, { may_change: true, name: 'admin key' }).map(({ name }) => name)
  expect(names).toEqual(['chat', 'desk', 'desk'])
})

test('a session that changes nothing charges its own key alone, if that may send requests', () => {
  expect(chargeableKeys(KEYS, { may_change: false, name: 'screen' })).toEqual([])
  expect(chargeableKeys(KEYS, { may_change: false, name: 'desk' })).toEqual([KEYS[2]])
})

import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import type { SessionEntry } from '@copal/shared/wire/admin-session.ts'

/**
 * Returns the keys that a session may charge with requests: of an operator each that may send some. A session that may change
 * nothing charges its own key alone, which is known by its name and by reading all.
 */
export function chargeableKeys(
  keys: readonly KeyEntry[],
  { may_change: mayChange, name: own }: Pick<SessionEntry, 'may_change' | 'name'>,
): KeyEntry[] {
  return keys.filter(
    ({ name, scopes }) =>
      scopes.includes('inference') && (mayChange || (name === own && scopes.includes('read-admin'))),
  )
}

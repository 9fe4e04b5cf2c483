import type { KeyScope } from '@copal/shared/wire/admin-keys.ts'
import type { Actor, ActiveKey } from '../contracts/api-key.ts'

/** The scopes that open the admin API and the dashboard, each to a part of it. */
export const ADMIN_SCOPES: readonly KeyScope[] = ['admin', 'read-metrics', 'read-admin']

/**
 * Returns the actor that a key stands for on routes that any of `scopes` opens.
 *
 * @returns undefined if it has none of them
 */
export function actorOfKey(
  key: ActiveKey,
  scopes: readonly KeyScope[] = ADMIN_SCOPES,
): Exclude<Actor, { kind: 'operator' }> | undefined {
  if (!scopes.some((scope) => key.scopes.includes(scope))) return undefined
  return { kind: key.scopes.includes('read-admin') ? 'observer' : 'tenant', key }
}

/** Returns whether an actor may change anything by the admin API. */
export function mayChange(actor: Actor): boolean {
  if (actor.kind === 'operator') return true
  return actor.kind === 'tenant' && actor.key.scopes.includes('admin')
}

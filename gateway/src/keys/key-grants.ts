import { AppError } from '@copal/shared/errors.ts'
import type { KeyRow, Actor } from '../contracts/api-key.ts'
import { limitsEntry } from '../usage/limits/key-limits.ts'
import type { Limits } from '../contracts/limits.ts'

/** What a key may do, of which its maker must have as much. */
export type Grants = Pick<KeyRow, 'scopes' | 'allowedModels' | 'allowedDomains' | 'expiresAt' | 'limits'>

/**
 * The tenant whose things an actor means: the named one, or its own; an operator who names none means all.
 *
 * @throws AppError `insufficient_permissions` for another tenant, whether there is one of that name or not
 */
export function tenantOf(actor: Actor, named: string | undefined): string | undefined {
  if (actor.kind === 'operator' || named === undefined || named === actor.key.tenant)
    return actor.kind === 'operator' ? named : actor.key.tenant
  throw new AppError(
    'insufficient_permissions',
    `This key administers the tenant '${actor.key.tenant}' only. Leave 'tenant' out, or use the admin key.`,
    { param: 'tenant' },
  )
}

/**
 * Refuses that an actor makes, or gets by rotation, a key that may do more than its own.
 *
 * @throws AppError `insufficient_permissions` that names the field
 */
export function requireGrants(actor: Actor, wanted: Grants): void {
  if (actor.kind === 'operator') return
  const { key } = actor
  const scope = wanted.scopes.find((name) => !key.scopes.includes(name))
  if (scope !== undefined) throw exceeds('scopes', `the scope '${scope}'`, key.scopes)
  const model = beyond(wanted.allowedModels, key.allowedModels)
  if (model !== undefined) throw exceeds('allowed_models', model, key.allowedModels ?? [])
  const domain = beyond(wanted.allowedDomains, key.allowedDomains)
  if (domain !== undefined) throw exceeds('allowed_domains', domain, key.allowedDomains ?? [])
  if (key.expiresAt !== null && (wanted.expiresAt === null || wanted.expiresAt > key.expiresAt)) {
    const until = new Date(key.expiresAt).toISOString()
    throw new AppError(
      'insufficient_permissions',
      `This key is valid until ${until}; a key that it makes must expire by then too.`,
      { param: 'expires_at' },
    )
  }
  requireLimits(actor, wanted.limits)
}

/**
 * Refuses that an actor gives a key a limit that is looser than its own, or takes it away.
 *
 * @param changed the key whose limits these shall be, as it is: a limit that stays was not given by the actor
 * @throws AppError `insufficient_permissions` that names the limit
 */
export function requireLimits(actor: Actor, wanted: Limits, changed?: Pick<KeyRow, 'id' | 'limits'>): void {
  if (actor.kind === 'operator') return
  // An isolate may know the actor as it was some seconds ago, with limits that were tightened since.
  const { limits } = changed?.id === actor.key.id ? changed : actor.key
  const own: Record<string, number | null> = limitsEntry(limits)
  const had: Record<string, number | null> = changed ? limitsEntry(changed.limits) : {}
  for (const [name, value] of Object.entries(limitsEntry(wanted))) {
    const most = own[name] ?? Infinity
    if ((value ?? Infinity) <= most || value === had[name]) continue
    throw new AppError(
      'insufficient_permissions',
      `This key is limited itself: 'limits.${name}' of a key that it makes or changes must be set, to ${most} at most.`,
      { param: `limits.${name}` },
    )
  }
}

/** What of `wanted` lies outside `own`; null is everything. */
function beyond(wanted: string[] | null, own: string[] | null): string | undefined {
  if (own === null) return undefined
  if (wanted === null) return 'all of them'
  const outside = wanted.find((name) => !own.includes(name))
  return outside === undefined ? undefined : `'${outside}'`
}

function exceeds(param: string, what: string, own: readonly string[]): AppError {
  const names = own.map((name) => `'${name}'`).join(', ')
  return new AppError(
    'insufficient_permissions',
    `This key cannot give ${what}: '${param}' may hold what it has itself, ${names}.`,
    { param },
  )
}

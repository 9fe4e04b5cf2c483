import { AppError } from '@copal/shared/errors.ts'
import type { KeyRow, Actor } from '../contracts/api-key.ts'
import { limitsEntry } from '../usage/limits/key-limits.ts'
import type { Limits } from '../contracts/limits.ts'
import { isLooser } from './sampling-policy.ts'

/** The rights of a key. An administrator can grant only rights that its own key has. */
export type Grants = Pick<
  KeyRow,
  'scopes' | 'allowedModels' | 'allowedDomains' | 'expiresAt' | 'limits' | 'sampling'
>

/**
 * Returns the tenant that a call is about: the named one, or the actor's own; undefined (all) for an operator or observer
 * who names none.
 *
 * @throws AppError `insufficient_permissions` for another tenant, whether it exists or not
 */
export function tenantOf(actor: Actor, named: string | undefined): string | undefined {
  if (actor.kind !== 'tenant') return named
  if (named === undefined || named === actor.key.tenant) return actor.key.tenant
  throw new AppError(
    'insufficient_permissions',
    `This key administers the tenant '${actor.key.tenant}' only. Leave 'tenant' out, or use the admin key.`,
    { param: 'tenant' },
  )
}

/**
 * Checks that an actor does not create or rotate a key that has more rights than its own.
 *
 * @throws AppError `insufficient_permissions` that names the field
 */
export function requireGrants(actor: Actor, requested: Grants): void {
  if (actor.kind === 'operator') return
  requireTenant(actor)
  const { key } = actor
  const scope = requested.scopes.find((name) => !key.scopes.includes(name))
  if (scope !== undefined) throw exceeds('scopes', `the scope '${scope}'`, key.scopes)
  const model = beyond(requested.allowedModels, key.allowedModels)
  if (model !== undefined) throw exceeds('allowed_models', model, key.allowedModels ?? [])
  const domain = beyond(requested.allowedDomains, key.allowedDomains)
  if (domain !== undefined) throw exceeds('allowed_domains', domain, key.allowedDomains ?? [])
  if (key.expiresAt !== null && (requested.expiresAt === null || requested.expiresAt > key.expiresAt)) {
    const until = new Date(key.expiresAt).toISOString()
    throw new AppError(
      'insufficient_permissions',
      `This key is valid until ${until}; a key that it creates must expire by then too.`,
      { param: 'expires_at' },
    )
  }
  requireSampling(actor, requested.sampling)
  requireLimits(actor, requested.limits)
}

/**
 * Checks that an actor changes, rotates or revokes only a key that may do no more than its own. Its own key is allowed.
 *
 * @throws AppError `insufficient_permissions` that names the field in which the key exceeds the actor's
 */
export function requireNotAbove(actor: Actor, row: Grants & Pick<KeyRow, 'id'>): void {
  if (actor.kind === 'operator' || row.id === actor.key.id) return
  try {
    requireGrants(actor, row)
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause
    throw new AppError(
      'insufficient_permissions',
      `The key '${row.id}' may do more than this key: '${cause.param}' exceeds its own. Only a key that may do as much, or the admin key, can change it.`,
      { cause, param: cause.param ?? 'id' },
    )
  }
}

/** Returns whether a key may do no more than the actor's own, which is then shown to the actor. Observers see all. */
export function isNotAbove(actor: Actor, row: Grants & Pick<KeyRow, 'id'>): boolean {
  if (actor.kind === 'observer') return true
  try {
    requireNotAbove(actor, row)
    return true
  } catch {
    return false
  }
}

/**
 * Checks that an actor does not let more be sampled than its own key may.
 *
 * @param current the key to change, as it is now; the actor's own may be stricter now than the cached actor
 * @throws AppError `insufficient_permissions`
 */
export function requireSampling(
  actor: Actor,
  requested: KeyRow['sampling'],
  current?: Pick<KeyRow, 'id' | 'sampling'>,
): void {
  if (actor.kind === 'operator') return
  const { sampling } = current?.id === actor.key.id ? current : actor.key
  if (!isLooser(requested, sampling)) return
  throw new AppError(
    'insufficient_permissions',
    `This key cannot grant the sampling policy '${requested}': its own is '${sampling}', and a key that it creates or changes may have this or a stricter one.`,
    { param: 'sampling' },
  )
}

/**
 * Checks that an actor does not set a looser limit than its own, or remove one that its own key has.
 *
 * @param current the key to change, as it is now: a limit that stays the same is allowed
 * @throws AppError `insufficient_permissions` that names the limit
 */
export function requireLimits(
  actor: Actor,
  requested: Limits,
  current?: Pick<KeyRow, 'id' | 'limits'>,
): void {
  if (actor.kind === 'operator') return
  // The cached actor may be some seconds old, and its limits may have been tightened since.
  const { limits } = current?.id === actor.key.id ? current : actor.key
  const own: Record<string, number | null> = limitsEntry(limits)
  const previous: Record<string, number | null> = current ? limitsEntry(current.limits) : {}
  for (const [name, value] of Object.entries(limitsEntry(requested))) {
    const maximum = own[name] ?? Infinity
    if ((value ?? Infinity) <= maximum || value === previous[name]) continue
    throw new AppError(
      'insufficient_permissions',
      `This key is limited itself: 'limits.${name}' of a key that it creates or changes must be set, to at most ${maximum}.`,
      { param: `limits.${name}` },
    )
  }
}

/** Routes refuse changes by observers before they come here; an observer's scopes must grant nothing either. */
function requireTenant(actor: Exclude<Actor, { kind: 'operator' }>): void {
  if (actor.kind === 'tenant') return
  throw new AppError('insufficient_permissions', "A key with the scope 'read-admin' changes nothing.")
}

/** Returns the first of `requested` that is not in `own`; null means all. */
function beyond(requested: string[] | null, own: string[] | null): string | undefined {
  if (own === null) return undefined
  if (requested === null) return 'all of them'
  const outside = requested.find((name) => !own.includes(name))
  return outside === undefined ? undefined : `'${outside}'`
}

function exceeds(param: string, what: string, own: readonly string[]): AppError {
  const names = own.map((name) => `'${name}'`).join(', ')
  return new AppError(
    'insufficient_permissions',
    `This key cannot grant ${what}: '${param}' may contain only what this key has itself, ${names}.`,
    { param },
  )
}

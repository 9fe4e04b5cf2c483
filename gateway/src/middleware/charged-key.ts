import { AppError } from '@copal/shared/errors.ts'
import type { ActiveKey, Actor } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { mayChange } from '../keys/actor-of-key.ts'
import { isNotAbove } from '../keys/key-grants.ts'
import { findActiveKey } from '../storage/db/queries/key-queries.ts'

/** The header in which the dashboard's playground names the key to charge. */
export const KEY_HEADER = 'x-copal-key'

/**
 * Returns the API key that a request to `/v1` with a session counts for: the named one, which must be one that the session could
 * have created, otherwise the one that signed in.
 *
 * @param named the value of {@link KEY_HEADER}
 *
 * @throws AppError `invalid_request` if no key is named and none with the scope `inference` signed in,
 * `insufficient_permissions` if it may not use the named one
 */
export async function chargedKey(
  deps: Pick<Deps, 'db' | 'nowMs'>,
  actor: Actor,
  named: string | undefined,
): Promise<ActiveKey> {
  const own = actor.kind === 'operator' ? undefined : actor.key
  if (named === undefined || named === own?.id) {
    if (own?.scopes.includes('inference')) return own
    throw new AppError(
      'invalid_request',
      `Name the API key that the request is charged to in the header '${KEY_HEADER}', by its id. 'GET /admin/keys' lists the keys.`,
      { param: KEY_HEADER },
    )
  }
  const key = mayChange(actor) ? await findKeyInForce(deps, named) : undefined
  if (
    key?.scopes.includes('inference') &&
    (own === undefined || (key.tenant === own.tenant && isNotAbove(actor, key)))
  )
    return key
  throw new AppError(
    'insufficient_permissions',
    `This session may not use the key '${named}'. It may use keys with the scope 'inference' that it could create, see 'GET /admin/keys'.`,
    { param: KEY_HEADER },
  )
}

/** Returns whether a key is neither revoked nor expired. */
export async function isInForce(deps: Pick<Deps, 'db' | 'nowMs'>, id: string): Promise<boolean> {
  return (await findKeyInForce(deps, id)) !== undefined
}

async function findKeyInForce(
  { db, nowMs }: Pick<Deps, 'db' | 'nowMs'>,
  id: string,
): Promise<ActiveKey | undefined> {
  const key = await findActiveKey(db, id)
  return key && (key.expiresAt === null || key.expiresAt > nowMs()) ? key : undefined
}

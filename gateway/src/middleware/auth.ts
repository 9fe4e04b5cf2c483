import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { KeyScope } from '@copal/shared/wire/admin-keys.ts'
import type { ActorEnv, KeyedEnv } from '../contracts/context.ts'
import type { ActiveKey, Actor, KeyRow } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { KeyCheck, Keyring } from '../keys/keyring.ts'
import { clientNetwork } from '../keys/unknown-key-limit.ts'
import { ADMIN_SCOPES, actorOfKey, mayChange } from '../keys/actor-of-key.ts'
import { digestOf, KEY_PREFIX, sameHash, displayPart } from '../keys/key-secret.ts'
import { chargedKey, isInForce, KEY_HEADER } from './charged-key.ts'
import { sessionOf } from './session-cookie.ts'

const READING: readonly string[] = ['GET', 'HEAD', 'OPTIONS']

/**
 * Creates middleware that admits requests with an API key of the scope `inference`, or with a session of the dashboard that may
 * use such a key, and sets it as `key`.
 */
export function requireKey(keyring: Keyring, recheckMs?: number): MiddlewareHandler<KeyedEnv> {
  return async (c, next) => {
    const { deps } = c.var
    const everyMs = recheckMs ?? deps.keyTrustMs
    const header = c.req.header('authorization')
    const signedIn = header === undefined ? await sessionOf(deps, c.req) : undefined
    if (signedIn) {
      const { session, inForce } = signedIn
      const key = await chargedKey(deps, session.actor, c.req.header(KEY_HEADER))
      c.set('key', key)
      c.set('keyWatch', {
        inForce: async () => (await inForce()) && (await isInForce(deps, key.id)),
        everyMs,
      })
    } else {
      const token = bearerToken(header, 'an API key', `${KEY_PREFIX}…`)
      const address = clientNetwork(c.req.header('cf-connecting-ip'))
      const check = await keyring.check(deps, token, address)
      if (!check.ok) {
        throw (await isAdminKey(deps, token))
          ? new AppError(
              'invalid_api_key',
              "This is the admin key, which is valid only for '/admin' and '/metrics'. Send an API key here.",
            )
          : keyError(token, check)
      }
      if (!check.key.scopes.includes('inference')) throw missingScope(check.key, ['inference'], 'An API key')
      c.set('key', check.key)
      c.set('keyWatch', { inForce: async () => (await keyring.check(deps, token, address)).ok, everyMs })
    }
    await next()
  }
}

/**
 * Creates middleware that admits requests with the admin key, an API key of one of `scopes`, or a session of such a key, and
 * sets the caller as `actor`. A bearer token goes before a session.
 */
export function requireActor(
  keyring: Keyring,
  scopes: readonly KeyScope[] = ADMIN_SCOPES,
): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    const { deps } = c.var
    const header = c.req.header('authorization')
    const signedIn = header === undefined ? await sessionOf(deps, c.req) : undefined
    c.set('session', signedIn?.session)
    if (signedIn) {
      const { actor } = signedIn.session
      c.set('actor', actor.kind === 'operator' ? actor : requireScope(actor.key, scopes))
      c.set('actorInForce', signedIn.inForce)
    } else {
      const token = bearerToken(header, 'the admin key', '<admin key>')
      const address = clientNetwork(c.req.header('cf-connecting-ip'))
      c.set('actor', await identify(deps, keyring, { token, address }, scopes))
      c.set('actorInForce', async () => {
        return (await isAdminKey(deps, token)) || (await keyring.check(deps, token, address)).ok
      })
    }
    await next()
  }
}

/** Creates middleware that refuses changes by actors who only read. Mount {@link requireActor} first. */
export function refuseChanges(): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    if (!READING.includes(c.req.method) && !mayChange(c.var.actor)) {
      throw new AppError(
        'insufficient_permissions',
        `This key only reads. '${c.req.method} ${c.req.path}' needs the admin key, or for keys and texts of a tenant a key with the scope 'admin'.`,
      )
    }
    await next()
  }
}

/**
 * Creates middleware that admits only the operator, and observers, who only read, for routes that concern all tenants. Mount
 * {@link requireActor} and {@link refuseChanges} first.
 */
export function requireOperator(): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    const { actor } = c.var
    if (actor.kind === 'tenant') {
      const reader = READING.includes(c.req.method) ? " or a key with the scope 'read-admin'" : ''
      throw new AppError(
        'insufficient_permissions',
        `'${c.req.path}' concerns all tenants and needs the admin key${reader}. This key is for the tenant ` +
          `'${actor.key.tenant}' alone.`,
      )
    }
    await next()
  }
}

/**
 * Returns the actor that a token stands for.
 *
 * @throws AppError `invalid_api_key`, `insufficient_permissions` for a key that opens no part of the admin API,
 * `rate_limit_exceeded` if the address has sent too many unknown keys
 */
export async function identify(
  deps: Deps,
  keyring: Keyring,
  { token, address }: { token: string; address: string },
  scopes: readonly KeyScope[] = ADMIN_SCOPES,
): Promise<Actor> {
  if (await isAdminKey(deps, token)) return { kind: 'operator' }
  const check = await keyring.check(deps, token, address)
  if (check.ok) return requireScope(check.key, scopes)
  throw token.startsWith(KEY_PREFIX)
    ? keyError(token, check)
    : new AppError(
        'invalid_api_key',
        'This is neither the admin key nor an API key. Send the admin key: locally it is in credentials.json of ' +
          'COPAL_HOME; on Cloudflare its SHA-256 is the secret ADMIN_KEY_SHA256.',
      )
}

/** @throws AppError `insufficient_permissions` if a key has none of the scopes */
function requireScope(key: ActiveKey, scopes: readonly KeyScope[]): Actor {
  const actor = actorOfKey(key, scopes)
  if (actor) return actor
  throw missingScope(key, scopes, 'The admin key, or an API key')
}

/** Returns whether a token is the admin key. Compares hashes in constant time. */
export async function isAdminKey(deps: Deps, token: string): Promise<boolean> {
  return sameHash(await digestOf(token), deps.adminKeySha256)
}

function missingScope(key: KeyRow, scopes: readonly KeyScope[], who: string): AppError {
  const quoted = scopes.map((name) => `'${name}'`)
  const needed = [quoted.slice(0, -1).join(', '), quoted.at(-1)].filter(Boolean).join(' or ')
  return new AppError(
    'insufficient_permissions',
    `${who} with the scope ${needed} is needed here. This key has the scope${key.scopes.length === 1 ? '' : 's'} ${key.scopes.map((name) => `'${name}'`).join(', ')}.`,
  )
}

function keyError(token: string, check: Exclude<KeyCheck, { ok: true }>): AppError {
  const shown = displayPart(token)
  const message = () => {
    if (check.reason === 'unknown') {
      return token.startsWith(KEY_PREFIX)
        ? `The API key '${shown}' is unknown or was revoked. Check it, or ask for a new one.`
        : `The API key does not begin with '${KEY_PREFIX}', as all keys of this service do. Check that it is a key of this service.`
    }
    const since = new Date(check.sinceMs).toISOString()
    return check.reason === 'expired'
      ? `The API key '${shown}' expired at ${since}. Ask for a new one.`
      : `The API key '${shown}' was replaced and became invalid at ${since}. Use the new one.`
  }
  return new AppError('invalid_api_key', message())
}

function bearerToken(header: string | undefined, what: string, example: string): string {
  if (!header) {
    throw new AppError('invalid_api_key', `Send ${what} in the header 'Authorization: Bearer ${example}'.`)
  }
  const token = /^bearer +(\S+)$/i.exec(header.trim())?.[1]
  if (!token || token.length > 512) {
    throw new AppError(
      'invalid_api_key',
      `The header 'Authorization' is malformed. Send 'Authorization: Bearer ${example}'.`,
    )
  }
  return token
}

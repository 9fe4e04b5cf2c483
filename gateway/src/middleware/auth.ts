import type { MiddlewareHandler } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { KeyScope } from '@copal/shared/wire/admin-keys.ts'
import type { ActorEnv, KeyedEnv } from '../contracts/context.ts'
import type { KeyRow, Actor } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { KeyCheck, Keyring } from '../keys/keyring.ts'
import { clientNetwork } from '../keys/unknown-key-limit.ts'
import { digestOf, KEY_PREFIX, sameHash, displayPart } from '../keys/key-secret.ts'

/** Creates middleware that admits requests with an API key of the scope `inference`, and sets it as `key`. */
export function requireKey(keyring: Keyring, recheckMs?: number): MiddlewareHandler<KeyedEnv> {
  return async (c, next) => {
    const { deps } = c.var
    const token = bearerToken(c.req.header('authorization'), 'an API key', `${KEY_PREFIX}…`)
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
    requireScope(check.key, 'inference', 'An API key')
    c.set('key', check.key)
    c.set('keyWatch', {
      inForce: async () => (await keyring.check(deps, token, address)).ok,
      everyMs: recheckMs ?? deps.keyTrustMs,
    })
    await next()
  }
}

/** Creates middleware that admits requests with the admin key or an API key of `scope`, and sets the caller as `actor`. */
export function requireActor(keyring: Keyring, scope: KeyScope): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    const address = clientNetwork(c.req.header('cf-connecting-ip'))
    c.set('actor', await findActor(c.var.deps, keyring, c.req.header('authorization'), { scope, address }))
    await next()
  }
}

/** Creates middleware that admits only the operator, for routes that concern all tenants. Mount {@link requireActor} first. */
export function requireOperator(): MiddlewareHandler<ActorEnv> {
  return async (c, next) => {
    const { actor } = c.var
    if (actor.kind !== 'operator') {
      throw new AppError(
        'insufficient_permissions',
        `'${c.req.path}' concerns all tenants and needs the admin key. This key only administers the keys of the ` +
          `tenant '${actor.key.tenant}'.`,
      )
    }
    await next()
  }
}

async function findActor(
  deps: Deps,
  keyring: Keyring,
  header: string | undefined,
  { scope, address }: { scope: KeyScope; address: string },
): Promise<Actor> {
  const token = bearerToken(header, 'the admin key', '<admin key>')
  if (await isAdminKey(deps, token)) return { kind: 'operator' }
  const check = await keyring.check(deps, token, address)
  if (check.ok) {
    requireScope(check.key, scope, `The admin key, or an API key`)
    return { kind: 'tenant', key: check.key }
  }
  throw token.startsWith(KEY_PREFIX)
    ? keyError(token, check)
    : new AppError(
        'invalid_api_key',
        'This is neither the admin key nor an API key. Send the admin key: locally it is in credentials.json of ' +
          'COPAL_HOME; on Cloudflare its SHA-256 is the secret ADMIN_KEY_SHA256.',
      )
}

/** Compares hashes in constant time. */
async function isAdminKey(deps: Deps, token: string): Promise<boolean> {
  return sameHash(await digestOf(token), deps.adminKeySha256)
}

function requireScope(key: KeyRow, scope: KeyScope, who: string): void {
  if (key.scopes.includes(scope)) return
  throw new AppError(
    'insufficient_permissions',
    `${who} with the scope '${scope}' is needed here. This key has the scopes ${key.scopes.map((name) => `'${name}'`).join(', ')}.`,
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

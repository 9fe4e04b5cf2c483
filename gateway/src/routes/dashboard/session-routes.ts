import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { createSession as sessionBody, type SessionEntry } from '@copal/shared/wire/admin-session.ts'
import { recordAudit } from '../../audit/record-audit.ts'
import type { Actor, DashboardSession } from '../../contracts/api-key.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { actorId } from '../../keys/actor-id.ts'
import { mayChange } from '../../keys/actor-of-key.ts'
import { redeemLink } from '../../keys/dashboard-links.ts'
import { createSession, endSession, findSession } from '../../keys/dashboard-sessions.ts'
import { digestOf, KEY_PREFIX } from '../../keys/key-secret.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { isPresentSecret } from '../../keys/session-key.ts'
import { clientNetwork, createUnknownKeyLimit } from '../../keys/unknown-key-limit.ts'
import { identify, isAdminKey } from '../../middleware/auth.ts'
import {
  clearSessionCookie,
  requireSameOrigin,
  sessionCookie,
  sessionOf,
  setSessionCookie,
} from '../../middleware/session-cookie.ts'
import { readAdminBody } from '../admin/admin-body.ts'

/** Creates the routes by which the dashboard signs in and out. */
export function sessionRoutes(keyring: Keyring): Hono<AppEnv> {
  const attempts = createUnknownKeyLimit()
  /** Limits the failed attempts of an address with a secret that is no API key; the keyring limits those with one. */
  const limited = async (
    deps: Deps,
    secret: string,
    address: string,
    find: () => Promise<Actor | undefined>,
  ) => attempts.lookUp(deps, { digest: await digestOf(secret), address, cached: () => undefined, find })

  const signIn = async (deps: Deps, key: string, address: string): Promise<Actor> => {
    const operator = key.startsWith(KEY_PREFIX)
      ? undefined
      : await limited(deps, key, address, async () =>
          (await isAdminKey(deps, key)) ? { kind: 'operator' } : undefined,
        )
    const actor = operator ?? (await identify(deps, keyring, { token: key, address }))
    if (actor.kind !== 'operator' && !(await isPresentSecret(deps, actor.key, key))) throw replacedKey()
    return actor
  }

  return new Hono<AppEnv>()
    .post('/session', async (c) => {
      const { deps, requestId } = c.var
      requireSameOrigin(c.req)
      const request = await readAdminBody(c, sessionBody)
      const address = clientNetwork(c.req.header('cf-connecting-ip'))
      const actor =
        'code' in request
          ? await limited(deps, request.code, address, () => redeemLink(deps, request.code))
          : await signIn(deps, request.key, address)
      if (!actor) throw usedLink()
      const { cookie, session } = await createSession(deps, actor)
      const before = sessionCookie(c.req)
      const replaced = before === undefined ? undefined : await findSession(deps, before)
      if (replaced) await endSession(deps, replaced)
      await record(deps, 'dashboard.sign_in', actor, requestId)
      setSessionCookie(c, cookie)
      c.header('cache-control', 'no-store')
      return c.json(sessionEntry(session), 201)
    })
    .get('/session', async (c) => {
      const signedIn = await sessionOf(c.var.deps, c.req)
      if (!signedIn) throw notSignedIn()
      c.header('cache-control', 'no-store')
      return c.json(sessionEntry(signedIn.session))
    })
    .delete('/session', async (c) => {
      const signedIn = await sessionOf(c.var.deps, c.req)
      if (!signedIn) throw notSignedIn()
      const { deps, requestId } = c.var
      await endSession(deps, signedIn.session)
      await record(deps, 'dashboard.sign_out', signedIn.session.actor, requestId)
      clearSessionCookie(c)
      return c.json({ signed_out: true })
    })
}

async function record(deps: Deps, action: string, actor: Actor, requestId: string): Promise<void> {
  await recordAudit(deps, { actor: actorId(deps, actor), action, target: actor.kind, requestId })
}

function sessionEntry({ actor, csrf, expiresAtMs }: DashboardSession): SessionEntry {
  return {
    role: actor.kind,
    name: actor.kind === 'operator' ? 'admin key' : actor.key.name,
    tenant: actor.kind === 'tenant' ? actor.key.tenant : null,
    may_change: mayChange(actor),
    csrf,
    expires_at: new Date(expiresAtMs).toISOString(),
  }
}

function usedLink(): AppError {
  return new AppError(
    'invalid_api_key',
    "This link was used, or is older than five minutes. Sign in with a key, or make another link with 'npx copal dashboard'.",
  )
}

function replacedKey(): AppError {
  return new AppError(
    'invalid_api_key',
    'This key was rotated, and its old secret opens no session. Sign in with the new one.',
  )
}

function notSignedIn(): AppError {
  return new AppError(
    'invalid_api_key',
    "There is no session. 'POST /dashboard/session' signs in with a key.",
  )
}

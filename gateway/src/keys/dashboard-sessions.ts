import { DAY_MS } from '@copal/shared/day.ts'
import type { Actor, DashboardSession } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import {
  deleteEndedSessions,
  deleteSession,
  findSessionRow,
  insertSession,
  touchSession,
} from '../storage/db/queries/session-queries.ts'
import { createSecret, isSecretMac, secretMac, type SecretDeps } from './dashboard-secrets.ts'
import { actorOfSignedIn } from './session-key.ts'

/** How long a session lasts without being used. */
export const SESSION_IDLE_MS = 12 * 60 * 60_000
/** How long a session lasts at most. */
export const SESSION_MS = 7 * DAY_MS
/** A use is recorded when the last record is this old, so that most requests write nothing. */
const TOUCH_MS = 5 * 60_000

/**
 * Creates a session.
 *
 * @returns the session, and the value of its cookie: a secret and its MAC under the pepper, so that invented cookies are refused
 * without a look-up. The database has neither.
 */
export async function createSession(
  deps: SecretDeps,
  actor: Actor,
): Promise<{ cookie: string; session: DashboardSession }> {
  const { secret, stored } = await createSecret(deps, actor, 'session')
  const { hash, createdAt } = stored
  await insertSession(deps.db, { ...stored, seenAt: createdAt, expiresAt: createdAt + SESSION_MS })
  const csrf = await secretMac(deps, 'csrf', secret)
  return {
    cookie: `${secret}.${await secretMac(deps, 'cookie', secret)}`,
    session: { hash, actor, csrf, expiresAtMs: createdAt + SESSION_IDLE_MS },
  }
}

/** Returns the session of a cookie; undefined if there is none, or its key is no longer valid. */
export async function findSession(
  deps: SecretDeps & Pick<Deps, 'waitUntil'>,
  cookie: string,
): Promise<DashboardSession | undefined> {
  const [, secret, mac] = /^([\w-]{43})\.([0-9a-f]{64})$/.exec(cookie) ?? []
  if (secret === undefined || mac === undefined) return undefined
  if (!(await isSecretMac(deps, 'cookie', secret, mac))) return undefined
  const hash = await secretMac(deps, 'session', secret)
  const found = await findSessionRow(deps.db, hash)
  if (!found) return undefined
  const { session, key } = found
  const nowMs = deps.nowMs()
  if (nowMs >= Math.min(session.expiresAt, session.seenAt + SESSION_IDLE_MS)) return undefined
  const actor = await actorOfSignedIn(deps, session, key)
  if (!actor) return undefined
  if (nowMs - session.seenAt >= TOUCH_MS) deps.waitUntil(touchSession(deps.db, hash, nowMs))
  const expiresAtMs = Math.min(session.expiresAt, nowMs + SESSION_IDLE_MS)
  return { hash, actor, csrf: await secretMac(deps, 'csrf', secret), expiresAtMs }
}

/** Ends a session. */
export async function endSession(
  deps: Pick<Deps, 'db'>,
  { hash }: Pick<DashboardSession, 'hash'>,
): Promise<void> {
  await deleteSession(deps.db, hash)
}

/** Deletes sessions and one-time links that have expired. */
export async function deleteOldSessions(deps: Pick<Deps, 'db' | 'nowMs'>): Promise<void> {
  const nowMs = deps.nowMs()
  await deleteEndedSessions(deps.db, nowMs, nowMs - SESSION_IDLE_MS)
}

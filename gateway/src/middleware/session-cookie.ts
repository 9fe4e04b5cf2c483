import type { Context, HonoRequest } from 'hono'
import { deleteCookie, setCookie } from 'hono/cookie'
import { parse } from 'hono/utils/cookie'
import { AppError } from '@copal/shared/errors.ts'
import { CSRF_HEADER, SESSION_COOKIE } from '@copal/shared/wire/admin-session.ts'
import type { DashboardSession } from '../contracts/api-key.ts'
import type { Deps } from '../contracts/bindings.ts'
import { findSession, SESSION_MS } from '../keys/dashboard-sessions.ts'
import { sameHash } from '../keys/key-secret.ts'

/** The parts of a request that sessions need. */
type Request = Pick<HonoRequest, 'method' | 'url' | 'header'>

const READING: readonly string[] = ['GET', 'HEAD']

/** A session, and a check whether it is still valid. */
export interface CookieSession {
  session: DashboardSession
  inForce: () => Promise<boolean>
}

/**
 * Returns the session of a request's cookie; undefined without a cookie.
 *
 * Browsers send the cookie by themselves, so a page of another site must not be able to use it: it is `SameSite=Strict`, a
 * request of another origin is refused, and one that may change something must have the session's secret in a header, which
 * only a page of the same origin can read.
 *
 * @throws AppError `invalid_api_key` if the session has ended, `insufficient_permissions` if another page sent the request
 */
export async function sessionOf(deps: Deps, req: Request): Promise<CookieSession | undefined> {
  const cookie = sessionCookie(req)
  if (cookie === undefined) return undefined
  const session = await findSession(deps, cookie)
  if (!session) {
    throw new AppError(
      'invalid_api_key',
      "The session of the dashboard has ended. Sign in again at '/dashboard'.",
    )
  }
  requireSameOrigin(req)
  if (!READING.includes(req.method) && !sameHash(req.header(CSRF_HEADER) ?? '', session.csrf)) {
    throw new AppError(
      'insufficient_permissions',
      `A request with the cookie of a session that may change something needs the header '${CSRF_HEADER}' with the 'csrf' of 'GET /dashboard/session'.`,
      { param: CSRF_HEADER },
    )
  }
  return { session, inForce: async () => (await findSession(deps, cookie)) !== undefined }
}

/** Returns the cookie of a session, which may have ended. */
export function sessionCookie(req: Request): string | undefined {
  return parse(req.header('cookie') ?? '', SESSION_COOKIE)[SESSION_COOKIE]
}

/**
 * Checks that no page of another origin sent a request. Programs that are no browsers send neither header.
 *
 * @throws AppError `insufficient_permissions`
 */
export function requireSameOrigin(req: Request): void {
  const site = req.header('sec-fetch-site')
  const origin = req.header('origin')
  const isForeignSite = site !== undefined && site !== 'same-origin' && site !== 'none'
  if (!isForeignSite && (origin === undefined || isOwn(origin, req))) return
  throw new AppError(
    'insufficient_permissions',
    `The session of the dashboard is only for its own pages, and this request comes from ${origin ?? `a page of another site (${site})`}.`,
    { param: 'origin' },
  )
}

/** Hosts are compared without their schemes, because a proxy may end TLS before the gateway. */
function isOwn(origin: string, req: Request): boolean {
  const { host } = new URL(req.url)
  return URL.canParse(origin) && [host, req.header('host')].includes(new URL(origin).host)
}

/** Sets the cookie of a new session. */
export function setSessionCookie(c: Context, value: string): void {
  setCookie(c, SESSION_COOKIE, value, { ...attributes(c), maxAge: SESSION_MS / 1000 })
}

/** Deletes the cookie in the browser. */
export function clearSessionCookie(c: Context): void {
  deleteCookie(c, SESSION_COOKIE, attributes(c))
}

function attributes({ req }: Pick<Context, 'req'>) {
  const isSecure = new URL(req.url).protocol === 'https:' || req.header('x-forwarded-proto') === 'https'
  return { path: '/', httpOnly: true, sameSite: 'Strict', secure: isSecure } as const
}

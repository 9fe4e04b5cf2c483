import { exports } from 'cloudflare:workers'
import type { SessionEntry } from '@copal/shared/wire/admin-session.ts'
import { TEST_ADMIN_KEY } from '../setup/secrets.ts'
import { ORIGIN } from './gateway-requests.ts'

/** A browser that is signed in to the dashboard. */
export interface Browser {
  entry: SessionEntry
  /** The cookie, as `name=value`. */
  cookie: string
  /** Sends a request with the cookie and, unless `headers` has another, the CSRF header. */
  send: (
    method: string,
    path: string,
    options?: { body?: unknown; headers?: Record<string, string> },
  ) => Promise<Response>
}

/** Posts to `/dashboard/session`. */
export function postSession(body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  return exports.default.fetch(
    new Request(`${ORIGIN}/dashboard/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    }),
  )
}

/** Signs in as a browser does. */
export async function signIn(
  body: { key: string } | { code: string } = { key: TEST_ADMIN_KEY },
): Promise<Browser> {
  const response = await postSession(body)
  if (response.status !== 201) throw new Error(`signing in failed: ${await response.text()}`)
  const cookie = response.headers.get('set-cookie')?.split(';')[0] ?? ''
  const entry = await response.json<SessionEntry>()
  return {
    entry,
    cookie,
    send: (method, path, { body: content, headers = {} } = {}) =>
      exports.default.fetch(
        new Request(ORIGIN + path, {
          method,
          headers: {
            cookie,
            ...(method === 'GET' ? {} : { 'x-copal-csrf': entry.csrf }),
            ...(content === undefined ? {} : { 'content-type': 'application/json' }),
            ...headers,
          },
          ...(content === undefined ? {} : { body: JSON.stringify(content) }),
        }),
      ),
  }
}

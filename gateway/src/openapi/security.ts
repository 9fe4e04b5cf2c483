import { CSRF_HEADER, SESSION_COOKIE } from '@copal/shared/wire/admin-session.ts'
import { KEY_HEADER } from '../middleware/charged-key.ts'
import type { Operation } from './operation.ts'

/** Ways to authenticate: one of the list is enough, and each needs all of its schemes together. */
export type SecurityRequirements = Record<string, string[]>[]

/** The schemes by which callers authenticate, as the OpenAPI document names them. */
export const SECURITY_SCHEMES = {
  key: { type: 'http', scheme: 'bearer', description: 'An API key, or the admin key.' },
  session: {
    type: 'apiKey',
    in: 'cookie',
    name: SESSION_COOKIE,
    description: `A session of the dashboard, which \`POST /dashboard/session\` opens: it may do what the key may do that signed in. A bearer token goes before it, and requests of pages of another origin are refused. A request to \`/v1\` names the API key that it is charged to by its id in the header \`${KEY_HEADER}\`, unless one with the scope 'inference' signed in.`,
  },
  csrf: {
    type: 'apiKey',
    in: 'header',
    name: CSRF_HEADER,
    description: 'The `csrf` of `GET /dashboard/session`. Changes by a session need it.',
  },
} as const

/** How requests that need no other statement authenticate. */
export const DEFAULT_SECURITY: SecurityRequirements = [{ key: [] }]

/** Returns how the requests of an operation authenticate; empty if they do not. */
export function securityOf({ key, method, refusesSession }: Operation): SecurityRequirements {
  if (key === 'none') return []
  const session = method === 'get' ? { session: [] } : { session: [], csrf: [] }
  if (key === 'session') return [session]
  return refusesSession ? DEFAULT_SECURITY : [...DEFAULT_SECURITY, session]
}

/** Sessions of the dashboard. Public, so snake_case. */
import { z } from 'zod'

/** Name of the cookie of a session. */
export const SESSION_COOKIE = 'copal_session'
/** Header that every call with a session cookie that changes something sends, with the session's `csrf`. */
export const CSRF_HEADER = 'x-copal-csrf'

/** Body of `POST /dashboard/session`: an API key, the admin key, or the code of a one-time link. */
export const createSession = z.union([
  z.strictObject({ key: z.string().min(1).max(512) }),
  z.strictObject({ code: z.string().min(1).max(128) }),
])

/** Response of `POST` and `GET /dashboard/session`. */
export const sessionEntry = z.object({
  role: z
    .enum(['operator', 'observer', 'tenant'])
    .describe(
      '`operator`: the admin key. `observer`: a key that reads all and changes nothing. `tenant`: a key that sees its own tenant.',
    ),
  name: z.string().describe('The name of the key, or `admin key`.'),
  tenant: z.string().nullable(),
  may_change: z.boolean(),
  csrf: z.string(),
  expires_at: z.iso.datetime(),
})
/** A session of the dashboard. */
export type SessionEntry = z.output<typeof sessionEntry>

/** Response of `DELETE /dashboard/session`. */
export const signedOut = z.object({ signed_out: z.literal(true) })

/** Response of `POST /admin/dashboard-links`: a link that opens the dashboard signed in, once, within five minutes. */
export const dashboardLink = z.object({ url: z.url(), expires_at: z.iso.datetime() })
/** A response of `POST /admin/dashboard-links`. */
export type DashboardLink = z.output<typeof dashboardLink>

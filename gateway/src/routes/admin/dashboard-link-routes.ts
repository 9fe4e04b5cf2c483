import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { DashboardLink } from '@copal/shared/wire/admin-session.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { createLink } from '../../keys/dashboard-links.ts'

/** Creates the route that makes one-time links to the dashboard. */
export function dashboardLinkRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().post('/dashboard-links', async (c) => {
    const { deps, actor, session } = c.var
    if (session) {
      throw new AppError(
        'insufficient_permissions',
        'A session cannot make a link, which would outlive it. Send the admin key as a bearer token.',
      )
    }
    const { code, expiresAtMs } = await createLink(deps, actor)
    c.header('cache-control', 'no-store')
    // In the fragment, which browsers send to no server, so that it is in no log.
    const url = new URL(`/dashboard#code=${code}`, c.req.url).href
    return c.json({ url, expires_at: new Date(expiresAtMs).toISOString() } satisfies DashboardLink, 201)
  })
}

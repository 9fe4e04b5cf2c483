import { Hono } from 'hono'
import { DAY_MS } from '@copal/shared/day.ts'
import { usageQuery, type UsageReport } from '@copal/shared/wire/admin-usage.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import { listKeyUsage } from '../../storage/db/queries/key-usage-queries.ts'

/** Creates the route that reports the tokens charged to keys by day: of one tenant, or of all. */
export function usageRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/usage', async (c) => {
    const { deps, actor } = c.var
    const { tenant, days } = validate(usageQuery, c.req.query())
    const firstDay = Math.floor(deps.nowMs() / DAY_MS) - days + 1
    const keys = await listKeyUsage(deps.db, tenantOf(actor, tenant), firstDay)
    return c.json({
      from: new Date(firstDay * DAY_MS).toISOString().slice(0, 10),
      days,
      data: keys.map(({ id, name, tenant: owner, prefix, revokedAt, total, byDay }) => ({
        key: id,
        name,
        tenant: owner,
        prefix,
        revoked: revokedAt !== null,
        tokens: Array.from({ length: days }, (_, index) => byDay[String(firstDay + index)] ?? 0),
        total,
      })),
    } satisfies UsageReport)
  })
}

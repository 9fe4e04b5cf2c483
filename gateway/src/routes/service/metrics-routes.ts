import { Hono } from 'hono'
import { acceptedFormat, EXPOSITION_TYPES, formatMetrics } from '@copal/shared/telemetry/exposition.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { requireActor } from '../../middleware/auth.ts'
import { limitLists } from '../../middleware/list-limit.ts'
import { collectMetrics, collectTenantMetrics } from '../../usage/metrics/collect-metrics.ts'

/**
 * Creates `GET /metrics`, in the Prometheus text format or in OpenMetrics: all metrics for the admin key or an API key with the scope
 * `read-admin`, the traffic of its own tenant for one with the scope `read-metrics`.
 */
export function metricsRoutes(keyring: Keyring): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get(
    '/metrics',
    requireActor(keyring, ['read-metrics', 'read-admin']),
    limitLists(),
    async (c) => {
      const { deps, actor } = c.var
      const tenant = tenantOf(actor, undefined)
      const families = await (tenant === undefined
        ? collectMetrics(deps)
        : collectTenantMetrics(deps, tenant))
      const format = acceptedFormat(c.req.header('accept'))
      return c.text(formatMetrics(families, format), 200, { 'content-type': EXPOSITION_TYPES[format] })
    },
  )
}

import { Hono } from 'hono'
import type { ActorEnv } from '../../contracts/context.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { refuseChanges, requireActor, requireOperator } from '../../middleware/auth.ts'
import { auditActions } from '../../middleware/audit-actions.ts'
import { rejectOtherMethods } from '../../middleware/error-responses.ts'
import { limitLists } from '../../middleware/list-limit.ts'
import { alertRoutes } from './alert-routes.ts'
import { auditRoutes } from './audit-routes.ts'
import { dashboardLinkRoutes } from './dashboard-link-routes.ts'
import { domainChangeRoutes } from './domain-change-routes.ts'
import { domainListRoutes } from './domain-list-routes.ts'
import { domainRoutes } from './domain-routes.ts'
import { driftRoutes } from './drift-routes.ts'
import { evaluationRoutes } from './evaluation-routes.ts'
import { holdoutRoutes } from './holdout-routes.ts'
import { keyRoutes } from './key-routes.ts'
import { maskPictureRoutes } from './mask-picture-routes.ts'
import { maskRoutes } from './mask-routes.ts'
import { fleetRoutes } from './fleet-routes.ts'
import { overviewRoutes, type StreamTimes } from './overview-routes.ts'
import { ownMaskRoutes } from './own-mask-routes.ts'
import { policyRoutes } from './policy-routes.ts'
import { proposalRoutes } from './proposal-routes.ts'
import { reviewRoutes } from './review-routes.ts'
import { seriesRoutes } from './series-routes.ts'
import { statusRoutes } from './status-routes.ts'
import { tenantRoutes } from './tenant-routes.ts'
import { trialRoutes } from './trial-routes.ts'
import { triggerRoutes } from './trigger-routes.ts'
import { updateRoutes } from './update-routes.ts'
import { usageRoutes } from './usage-routes.ts'

/**
 * Creates the routes under `/admin`. Keys of a tenant may use those of keys, tenants, usage and its own domains, observers may
 * read all, and the operator may do all.
 */
export function adminRoutes(keyring: Keyring, streamTimes?: StreamTimes): Hono<ActorEnv> {
  const app = new Hono<ActorEnv>()
  /** Mounts routes together: several may have handlers of one path. */
  const mount = (...all: Hono<ActorEnv>[]) => {
    const joined = new Hono<ActorEnv>()
    for (const routes of all) joined.route('/', routes)
    app.route('/', rejectOtherMethods(joined))
  }
  app.use(requireActor(keyring), auditActions(), limitLists(), refuseChanges())
  mount(keyRoutes(), tenantRoutes(), usageRoutes(), domainListRoutes(), seriesRoutes())
  // Applies to all routes below, and to unknown paths.
  app.use(requireOperator())
  mount(
    statusRoutes(),
    dashboardLinkRoutes(),
    overviewRoutes(streamTimes),
    auditRoutes(),
    fleetRoutes(),
    domainChangeRoutes(),
    domainRoutes(),
    ownMaskRoutes(),
    proposalRoutes(),
    reviewRoutes(),
    holdoutRoutes(),
    updateRoutes(),
    maskRoutes(),
    maskPictureRoutes(),
    policyRoutes(),
    triggerRoutes(),
    trialRoutes(),
    evaluationRoutes(),
    driftRoutes(),
    alertRoutes(),
  )
  return app
}

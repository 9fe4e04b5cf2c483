import { Hono } from 'hono'
import type { ActorEnv } from '../../context.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { requireActor, requireOperator } from '../../middleware/auth.ts'
import { domainRoutes } from './domains.ts'
import { driftRoutes } from './drift.ts'
import { evaluateRoutes } from './evaluate.ts'
import { keyRoutes } from './keys.ts'
import { maskRoutes } from './masks.ts'
import { fleetRoutes } from './nodes.ts'
import { statusRoutes } from './status.ts'
import { tenantRoutes } from './tenants.ts'
import { trialRoutes } from './trials.ts'
import { updateRoutes } from './updates.ts'

/** Everything under `/admin`: keys for tenants' administrators too, the rest for the admin key alone. */
export function adminRoutes(keyring: Keyring): Hono<ActorEnv> {
  const app = new Hono<ActorEnv>()
  app.use(requireActor(keyring, 'admin'))
  app.route('/', keyRoutes())
  app.route('/', tenantRoutes())
  // Whatever is mounted below, and whatever is not there at all.
  app.use(requireOperator())
  app.route('/', statusRoutes())
  app.route('/', fleetRoutes())
  app.route('/', domainRoutes())
  app.route('/', updateRoutes())
  app.route('/', maskRoutes())
  app.route('/', trialRoutes())
  app.route('/', evaluateRoutes())
  app.route('/', driftRoutes())
  return app
}

import { Hono } from 'hono'
import type { AppEnv } from '../../context.ts'
import { requireAdmin } from '../../middleware/auth.ts'
import { domainRoutes } from './domains.ts'
import { driftRoutes } from './drift.ts'
import { evaluateRoutes } from './evaluate.ts'
import { keyRoutes } from './keys.ts'
import { maskRoutes } from './masks.ts'
import { statusRoutes } from './status.ts'
import { updateRoutes } from './updates.ts'

/** Everything under `/admin`, behind the admin key. */
export function adminRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use(requireAdmin())
  app.route('/', keyRoutes())
  app.route('/', statusRoutes())
  app.route('/', domainRoutes())
  app.route('/', updateRoutes())
  app.route('/', maskRoutes())
  app.route('/', evaluateRoutes())
  app.route('/', driftRoutes())
  return app
}

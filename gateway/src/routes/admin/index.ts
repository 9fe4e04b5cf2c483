import { Hono } from 'hono'
import type { AppEnv } from '../../context.ts'
import { requireAdmin } from '../../middleware/auth.ts'

/** Everything under `/admin`, behind the admin key. */
export function adminRoutes(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use(requireAdmin())
  return app
}

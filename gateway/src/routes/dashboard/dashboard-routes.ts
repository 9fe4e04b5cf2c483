import { Hono } from 'hono'
import type { AppEnv } from '../../contracts/context.ts'
import type { Keyring } from '../../keys/keyring.ts'
import { pageRoutes } from './page-routes.ts'
import { sessionRoutes } from './session-routes.ts'

/** Creates the routes under `/dashboard`: sessions, and the page with its files. */
export function dashboardRoutes(keyring: Keyring): Hono<AppEnv> {
  return new Hono<AppEnv>().route('/', sessionRoutes(keyring)).route('/', pageRoutes())
}

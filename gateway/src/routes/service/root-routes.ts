import { Hono } from 'hono'
import { accepts } from 'hono/accepts'
import type { AppEnv } from '../../contracts/context.ts'
import { notFoundResponse } from '../../middleware/error-responses.ts'

/** Creates `GET /`, which sends browsers to the dashboard and tells programs that there is no such route. */
export function rootRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>().get('/', (c) => {
    c.header('vary', 'accept')
    const supports = ['application/json', 'text/html']
    const preferred = accepts(c, { header: 'Accept', supports, default: 'application/json' })
    return preferred === 'text/html' ? c.redirect('/dashboard') : notFoundResponse(c)
  })
}

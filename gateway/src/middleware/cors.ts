import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'

/**
 * Lets pages of any origin call, and read every header of the answer, without cookies (CORS). Who is no browser sends no
 * `origin`, and pays nothing for it: to set headers ahead of an answer would make another of it.
 */
export function allowCors(): MiddlewareHandler {
  const allow = cors({ origin: '*', allowMethods: ['GET', 'POST'], exposeHeaders: ['*'], maxAge: 86_400 })
  return (c, next) => (c.req.header('origin') === undefined ? next() : allow(c, next))
}

import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'

/**
 * Creates middleware that lets web pages of any origin call without cookies, and read every response header (CORS).
 *
 * Requests without `origin` skip it: headers that are set before the response exists force Hono to copy the response.
 */
export function allowCors(): MiddlewareHandler {
  const allow = cors({ origin: '*', allowMethods: ['GET', 'POST'], exposeHeaders: ['*'], maxAge: 86_400 })
  return (c, next) => (c.req.header('origin') === undefined ? next() : allow(c, next))
}

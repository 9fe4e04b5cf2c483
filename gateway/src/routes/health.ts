import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { refuseMethod } from '../middleware/errors.ts'

/** `GET /health`: the gateway runs, and how many nodes it heard of lately, those that drain too. */
export function healthRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/health', async (c) => {
      const { nodes } = await c.var.deps.fleet.snapshot()
      return c.json({ status: 'ok', nodes_alive: nodes.filter((node) => node.alive).length })
    })
    .all('/health', refuseMethod('GET'))
}

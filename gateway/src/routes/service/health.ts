import { Hono } from 'hono'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/errors.ts'

/** Anybody may ask, however often: the fleet is asked no more often than that by an isolate. */
const REMEMBER_MS = 1_000

/** `GET /health`: the gateway runs, and how many nodes it heard of lately, those that drain too. */
export function healthRoutes(): Hono<AppEnv> {
  let known = { nodesAlive: 0, atMs: -Infinity }
  return new Hono<AppEnv>()
    .get('/health', async (c) => {
      const { deps } = c.var
      if (deps.nowMs() - known.atMs >= REMEMBER_MS) {
        const { nodes } = await deps.fleet.snapshot()
        known = { nodesAlive: nodes.filter((node) => node.alive).length, atMs: deps.nowMs() }
      }
      return c.json({ status: 'ok', nodes_alive: known.nodesAlive })
    })
    .all('/health', rejectMethod('GET'))
}

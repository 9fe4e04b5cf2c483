import { Hono } from 'hono'
import type { AppEnv } from '../../contracts/context.ts'

/** How long an isolate reuses a fleet snapshot, because anyone may call this route, as often as they like. */
const SNAPSHOT_CACHE_MS = 1_000

/** Creates `GET /health`, which counts the nodes with a recent heartbeat, including draining ones. */
export function healthRoutes(): Hono<AppEnv> {
  let cached = { nodesAlive: 0, atMs: -Infinity }
  return new Hono<AppEnv>().get('/health', async (c) => {
    const { deps } = c.var
    if (deps.nowMs() - cached.atMs >= SNAPSHOT_CACHE_MS) {
      const { nodes } = await deps.fleet.snapshot()
      cached = { nodesAlive: nodes.filter((node) => node.alive).length, atMs: deps.nowMs() }
    }
    return c.json({ status: 'ok', nodes_alive: cached.nodesAlive })
  })
}

import { Hono } from 'hono'
import { streamSSE, type SSEStreamingApi } from 'hono/streaming'
import type { ActorEnv } from '../../contracts/context.ts'
import { createOverviewCache, type SharedOverview } from '../../dashboard/overview-cache.ts'
import { StreamSlots } from '../../dashboard/stream-slots.ts'
import { actorId } from '../../keys/actor-id.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'

/** How often a stream looks for another overview. */
const TICK_MS = 2_000
/** Ticks between two heartbeats, and between two checks of the key. */
const HEARTBEAT_TICKS = 5
/** A stream ends after this time; clients open another one by themselves. */
const MAX_STREAM_MS = 60 * 60_000

/**
 * Creates the routes of the overview of the dashboard: once, and as server-sent events while it changes.
 *
 * @param options.tickMs shorter in tests
 */
export function overviewRoutes({ tickMs = TICK_MS }: { tickMs?: number } = {}): Hono<ActorEnv> {
  const overviews = createOverviewCache()
  const slots = new StreamSlots()
  return new Hono<ActorEnv>()
    .get('/overview', async (c) => {
      const { json } = await overviews.read(c.var.deps, c.req.query('model'))
      return c.body(json, 200, { 'content-type': 'application/json' })
    })
    .all('/overview', rejectMethod('GET'))
    .get('/events', async (c) => {
      const { deps, actor, actorInForce } = c.var
      const model = c.req.query('model')
      // Before the response begins, so that an unknown model is an error of its own.
      const first = await overviews.read(deps, model)
      const release = slots.take(actorId(deps, actor))
      return streamSSE(c, async (stream) => {
        try {
          await sendOverviews(stream, {
            first,
            tickMs,
            next: () => overviews.read(deps, model),
            isAllowed: actorInForce,
            nowMs: () => deps.nowMs(),
          })
        } finally {
          release()
        }
      })
    })
    .all('/events', rejectMethod('GET'))
}

interface Feed {
  first: SharedOverview
  tickMs: number
  next: () => Promise<SharedOverview>
  isAllowed: () => Promise<boolean>
  nowMs: () => number
}

/** Sends the overview and each that differs from the one before, until the client leaves or its key is no longer valid. */
async function sendOverviews(
  stream: SSEStreamingApi,
  { first, tickMs, next, isAllowed, nowMs }: Feed,
): Promise<void> {
  const endMs = nowMs() + MAX_STREAM_MS
  let current = first
  await stream.writeSSE({ event: 'overview', data: first.json, retry: 3_000 })
  for (let tick = 1; !stream.aborted && nowMs() < endMs; tick += 1) {
    await stream.sleep(tickMs)
    if (stream.aborted) return
    if (tick % HEARTBEAT_TICKS === 0) {
      // A check that cannot be made is ignored; the next one decides.
      if (!(await isAllowed().catch(() => true))) return
      const at = new Date(nowMs()).toISOString()
      await stream.writeSSE({ event: 'heartbeat', data: JSON.stringify({ at }) })
    }
    // While the database does not respond, the page says that its figures are old.
    const latest = await next().catch(() => current)
    if (latest.state === current.state) continue
    current = latest
    await stream.writeSSE({ event: 'overview', data: latest.json })
  }
}

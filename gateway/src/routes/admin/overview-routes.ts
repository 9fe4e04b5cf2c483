import { Hono } from 'hono'
import { streamSSE, type SSEStreamingApi } from 'hono/streaming'
import type { ActorEnv } from '../../contracts/context.ts'
import { createOverviewCache, type SharedOverview } from '../../dashboard/overview-cache.ts'
import { StreamSlots } from '../../dashboard/stream-slots.ts'
import { actorId } from '../../keys/actor-id.ts'

/** Ticks between two heartbeats, and between two checks of the key. */
const HEARTBEAT_TICKS = 5
/**
 * A stream ends after this time, and the page opens another one: Cloudflare allows a request 1,000 queries of D1, and an overview
 * takes about a dozen.
 */
const MAX_STREAM_MS = 2 * 60_000
/** Time that a stream may take beyond that to end, because its last overview may take a while. */
const LAST_MS = 30_000

/** The times of a stream, milliseconds. */
export interface StreamTimes {
  /** How often it looks for another overview. */
  tickMs: number
  maxStreamMs: number
}

const TIMES: StreamTimes = { tickMs: 2_000, maxStreamMs: MAX_STREAM_MS }

/**
 * Creates the routes of the overview of the dashboard: once, and as server-sent events while it changes.
 *
 * @param times of the streams; shorter in tests
 */
export function overviewRoutes({ tickMs, maxStreamMs }: StreamTimes = TIMES): Hono<ActorEnv> {
  const overviews = createOverviewCache()
  const slots = new StreamSlots()
  return new Hono<ActorEnv>()
    .get('/overview', async (c) => {
      const { json } = await overviews.read(c.var.deps, c.req.query('model'))
      return c.body(json, 200, { 'content-type': 'application/json' })
    })
    .get('/events', async (c) => {
      const { deps, actor, actorInForce } = c.var
      const model = c.req.query('model')
      // Before the response begins, so that an unknown model is an error of its own.
      const first = await overviews.read(deps, model)
      const nowMs = deps.nowMs()
      const endMs = nowMs + maxStreamMs
      const latestMs = endMs + LAST_MS
      const release = slots.take(actorId(deps, actor), { nowMs, endMs: latestMs, signal: c.req.raw.signal })
      return streamSSE(c, async (stream) => {
        try {
          await sendOverviews(stream, {
            first,
            tickMs,
            endMs,
            next: () => overviews.read(deps, model),
            isAllowed: actorInForce,
            nowMs: () => deps.nowMs(),
          })
        } finally {
          release()
        }
      })
    })
}

interface Feed {
  first: SharedOverview
  tickMs: number
  endMs: number
  next: () => Promise<SharedOverview>
  isAllowed: () => Promise<boolean>
  nowMs: () => number
}

/**
 * Sends the overview and each that differs from the one before, until the client leaves, its key is no longer valid, or there is
 * no overview, so that the client learns that its figures are old. A planned end is announced by the event `end`.
 */
async function sendOverviews(
  stream: SSEStreamingApi,
  { first, tickMs, endMs, next, isAllowed, nowMs }: Feed,
): Promise<void> {
  let current = first
  await stream.writeSSE({ event: 'overview', data: first.json, retry: 1_000 })
  for (let tick = 1; !stream.aborted && nowMs() < endMs; tick += 1) {
    await stream.sleep(tickMs)
    if (stream.aborted) return
    if (tick % HEARTBEAT_TICKS === 0) {
      // A check that cannot be made is ignored; the next one decides.
      if (!(await isAllowed().catch(() => true))) return
      const at = new Date(nowMs()).toISOString()
      await stream.writeSSE({ event: 'heartbeat', data: JSON.stringify({ at }) })
    }
    const latest = await next().catch(() => undefined)
    if (!latest) return
    if (latest.state === current.state) continue
    current = latest
    await stream.writeSSE({ event: 'overview', data: latest.json })
  }
  await stream.writeSSE({ event: 'end', data: '{}' })
}

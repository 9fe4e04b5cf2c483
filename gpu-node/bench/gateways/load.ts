import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Dispatcher } from 'undici'
import { percentile } from '../measurement/percentile.ts'
import type { Sample } from './sample.ts'

/** A request that a load repeats. */
export interface Request {
  origin: string
  path: string
  headers: Record<string, string>
  body: string
  /** Text in the last bytes of every complete response. */
  ending: string
}

interface Due {
  /** When the request was sent, or when it would have been if a connection had been free. */
  sinceMs: number
  /** How long the load generator itself delayed it. */
  lateMs: number
}

interface Outcome extends Due {
  firstByteMs: number
  endMs: number
  failure?: string
}

const TAIL_BYTES = 32
/** How long requests that still run after a measurement may take. */
const DRAIN_TIMEOUT_MS = 30_000

/** A load generator that sends one request at a time over each of its open connections. */
export interface Load {
  /** Every connection sends its next request as soon as it has the response. */
  closedLoop(seconds: number): Promise<Sample>
  /**
   * Requests become due at a fixed rate, whether or not earlier ones have ended, and wait for a free connection. So a
   * server that stalls is charged for every request that waits.
   */
  fixedRate(perSecond: number, seconds: number): Promise<Sample>
  /** Sends a number of requests, one after another on each connection. */
  count(requests: number): Promise<Sample>
  close(): Promise<void>
}

/** Opens a load generator. It uses undici's client directly, because `fetch` would cost more processor time. */
export function openLoad(request: Request, connections: number): Load {
  const clients = Array.from({ length: connections }, () => new Client(request.origin, { pipelining: 1 }))
  const idle = [...clients]

  const loop = async (continues: () => boolean): Promise<Sample> => {
    const outcomes: Outcome[] = []
    const startedMs = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        while (continues())
          outcomes.push(await send(client, request, { sinceMs: performance.now(), lateMs: 0 }))
      }),
    )
    return summarise(outcomes, startedMs, performance.now())
  }

  return {
    closedLoop(seconds) {
      const untilMs = performance.now() + seconds * 1000
      return loop(() => performance.now() < untilMs)
    },
    count(requests) {
      let left = requests
      return loop(() => left-- > 0)
    },
    async fixedRate(perSecond, seconds) {
      const outcomes: Outcome[] = []
      const due: Due[] = []
      const total = Math.max(1, Math.floor(perSecond * seconds))
      const startedMs = performance.now()
      const work = async (client: Client): Promise<void> => {
        for (let first = due.shift(); first !== undefined; first = due.shift())
          outcomes.push(await send(client, request, first))
        idle.push(client)
      }
      for (let sent = 0; sent < total;) {
        const nowMs = performance.now()
        for (; sent < total; sent += 1) {
          const lateMs = nowMs - startedMs - (sent * 1000) / perSecond
          if (lateMs < 0) break
          due.push({ sinceMs: nowMs, lateMs })
          const client = idle.pop()
          if (client) void work(client)
        }
        await sleep(1)
      }
      const untilMs = performance.now() + DRAIN_TIMEOUT_MS
      while (outcomes.length < total && performance.now() < untilMs) await sleep(5)
      if (outcomes.length < total) throw new Error(`${total - outcomes.length} requests got no response`)
      return summarise(outcomes, startedMs, performance.now())
    },
    async close() {
      await Promise.all(clients.map((client) => client.destroy()))
    },
  }
}

function send(client: Client, { path, headers, body, ending }: Request, due: Due): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>()
  let status = 0
  let firstByteMs = Number.NaN
  let tail = ''
  const end = (failure?: string) =>
    resolve({ ...due, firstByteMs, endMs: performance.now(), ...(failure ? { failure } : {}) })
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart: () => undefined,
    onResponseStart: (_controller, statusCode) => {
      status = statusCode
    },
    onResponseData: (_controller, chunk) => {
      if (Number.isNaN(firstByteMs)) firstByteMs = performance.now()
      tail = (tail + chunk.subarray(-TAIL_BYTES).toString('latin1')).slice(-TAIL_BYTES)
    },
    onResponseEnd: () => {
      const whole = status === 200 && tail.includes(ending)
      end(whole ? undefined : `HTTP ${status}, ending in '${tail.trim()}'`)
    },
    onResponseError: (_controller, error) => end(error.message),
  }
  client.dispatch({ method: 'POST', path, headers, body }, handler)
  return promise
}

function summarise(outcomes: readonly Outcome[], startedMs: number, endedMs: number): Sample {
  const complete = outcomes.filter(({ failure }) => failure === undefined)
  const sorted = (of: (outcome: Outcome) => number) => complete.map(of).toSorted((a, b) => a - b)
  return {
    count: complete.length,
    perSecond: (complete.length * 1000) / (endedMs - startedMs),
    firstByteMs: sorted(({ sinceMs, firstByteMs }) => firstByteMs - sinceMs),
    wholeMs: sorted(({ sinceMs, endMs }) => endMs - sinceMs),
    failed: outcomes.length - complete.length,
    failure: outcomes.find(({ failure }) => failure !== undefined)?.failure,
    lateMs: percentile(
      sorted(({ lateMs }) => lateMs),
      0.99,
    ),
  }
}

import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type Dispatcher } from 'undici'
import { percentile, type Sample } from './sample.ts'

/** A request that is sent again and again. */
export interface Request {
  origin: string
  path: string
  headers: Record<string, string>
  body: string
  /** Text that the answer's last bytes hold, or it is not whole. */
  ending: string
}

interface Due {
  /** When it was sent, or would have been if a connection had been free. */
  sinceMs: number
  /** How long the generator itself held it up. */
  lateMs: number
}

interface Answered extends Due {
  firstByteMs: number
  endMs: number
  failure?: string
}

const TAIL_BYTES = 32
/** How long what is still running may take after a measurement. */
const DRAIN_MS = 30_000

/** Sends requests over connections that are kept; one at a time on each. */
export interface Load {
  /** Every connection sends its next request when it has its answer. */
  closedLoop(seconds: number): Promise<Sample>
  /**
   * Requests fall due at a fixed rate, whatever becomes of those before, and wait for a free connection: a server that
   * stalls is charged with all of them.
   */
  fixedRate(perSecond: number, seconds: number): Promise<Sample>
  /** So many requests, one after another on each connection. */
  count(requests: number): Promise<Sample>
  close(): Promise<void>
}

/** Opens a load; it is undici's client without its `fetch`, so that it costs little beside what it measures. */
export function openLoad(request: Request, connections: number): Load {
  const clients = Array.from({ length: connections }, () => new Client(request.origin, { pipelining: 1 }))
  const idle = [...clients]

  const loop = async (goesOn: () => boolean): Promise<Sample> => {
    const answers: Answered[] = []
    const startedMs = performance.now()
    await Promise.all(
      clients.map(async (client) => {
        while (goesOn()) answers.push(await send(client, request, { sinceMs: performance.now(), lateMs: 0 }))
      }),
    )
    return summarize(answers, startedMs, performance.now())
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
      const answers: Answered[] = []
      const due: Due[] = []
      const total = Math.max(1, Math.floor(perSecond * seconds))
      const startedMs = performance.now()
      const work = async (client: Client): Promise<void> => {
        for (let first = due.shift(); first !== undefined; first = due.shift())
          answers.push(await send(client, request, first))
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
      const untilMs = performance.now() + DRAIN_MS
      while (answers.length < total && performance.now() < untilMs) await sleep(5)
      if (answers.length < total) throw new Error(`${total - answers.length} requests were never answered`)
      return summarize(answers, startedMs, performance.now())
    },
    async close() {
      await Promise.all(clients.map((client) => client.destroy()))
    },
  }
}

function send(client: Client, { path, headers, body, ending }: Request, due: Due): Promise<Answered> {
  const { promise, resolve } = Promise.withResolvers<Answered>()
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

function summarize(answers: readonly Answered[], startedMs: number, endedMs: number): Sample {
  const good = answers.filter(({ failure }) => failure === undefined)
  const sorted = (of: (answer: Answered) => number) => good.map(of).toSorted((a, b) => a - b)
  return {
    count: good.length,
    perSecond: (good.length * 1000) / (endedMs - startedMs),
    firstByteMs: sorted(({ sinceMs, firstByteMs }) => firstByteMs - sinceMs),
    wholeMs: sorted(({ sinceMs, endMs }) => endMs - sinceMs),
    failed: answers.length - good.length,
    failure: answers.find(({ failure }) => failure !== undefined)?.failure,
    lateMs: percentile(
      sorted(({ lateMs }) => lateMs),
      0.99,
    ),
  }
}

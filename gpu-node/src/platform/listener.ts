import { createServer, type Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { AppError, errorBody } from '@copal/shared/errors.ts'

/**
 * How long an idle connection stays open: longer than a proxy in front keeps one (cloudflared 90 s). A connection that the node
 * closed first would lose the next request on it, which nobody may send again.
 */
const KEEP_ALIVE_MS = 120_000

/** Interval at which a closing port closes connections that have become idle. */
const IDLE_SWEEP_MS = 50

/** The node's HTTP port. */
export interface Listener {
  /** Address with the port that was actually bound: `http://127.0.0.1:8790`. */
  readonly url: string
  /** Passes requests to `fetch` from now on; earlier ones get a 503. */
  serve: (fetch: (request: Request) => Response | Promise<Response>) => void
  /** Accepts no new connections; settles when the open ones have ended, at the latest after `graceMs`. */
  close(graceMs: number): Promise<void>
}

/**
 * Binds the port at once, before the model is loaded, so that a port in use is reported immediately.
 *
 * @throws AppError `conflict` when the port is taken, `invalid_request` when the address cannot be used
 */
export async function listen(host: string, port: number): Promise<Listener> {
  let handler: ReturnType<typeof getRequestListener> | undefined
  const server = createServer((request, response) => {
    if (handler) return void handler(request, response)
    const error = new AppError('no_node_available', 'The node is starting. Try again in a moment.')
    response.writeHead(error.status, { 'content-type': 'application/json', 'retry-after': '1' })
    response.end(JSON.stringify(errorBody(error)))
  })
  server.keepAliveTimeout = KEEP_ALIVE_MS
  await bind(server, host, port)
  const address = server.address()
  const taken = typeof address === 'object' && address !== null ? address.port : port
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${taken}`,
    serve(fetch) {
      handler = getRequestListener(fetch, { overrideGlobalObjects: false })
    },
    async close(graceMs) {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeIdleConnections()
      // Connections whose responses end from now on stay open, for a next request that does not come.
      const sweep = setInterval(() => server.closeIdleConnections(), IDLE_SWEEP_MS)
      const timer = setTimeout(() => server.closeAllConnections(), graceMs)
      await closed
      clearInterval(sweep)
      clearTimeout(timer)
    },
  }
}

function bind(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => reject(bindError(host, port, cause)))
    server.listen(port, host, resolve)
  })
}

function bindError(host: string, port: number, cause: NodeJS.ErrnoException): AppError {
  if (cause.code === 'EADDRINUSE') {
    return new AppError(
      'conflict',
      `Port ${port} on ${host} is in use: another node may be running. End it, or set COPAL_NODE_PORT to a free port.`,
      { cause },
    )
  }
  return new AppError(
    'invalid_request',
    `The node cannot listen on ${host}:${port} (${cause.code ?? cause.message}). Set COPAL_NODE_HOST and COPAL_NODE_PORT.`,
    { cause },
  )
}

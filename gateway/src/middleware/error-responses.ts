import type { Context, Env, Hono } from 'hono'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import type { AppEnv } from '../contracts/context.ts'
import type { RequestTrace } from '../contracts/request-trace.ts'
import { causeChain } from '../runtime/cause-chain.ts'
import { toOutageError } from './outage-error.ts'

/** Creates the error response for anything thrown; unexpected errors are logged with their stacks. */
export function errorResponse(thrown: Error, c: Context<AppEnv>): Response {
  const error = toOutageError(thrown) ?? toAppError(thrown)
  if (error !== thrown || error.code === 'internal_error') {
    console.error(
      `${c.req.method} ${c.req.path} failed (request ${c.var.requestId}):`,
      ...traceFields(c.var.trace),
      causeChain(thrown)
        .map(({ stack }) => stack)
        .join('\ncaused by '),
    )
  }
  c.header('x-request-id', c.var.requestId)
  if (error.status === 401) c.header('www-authenticate', 'Bearer')
  if (error.retryAfterS !== undefined) c.header('retry-after', String(error.retryAfterS))
  // Not `c.json`: its status type does not allow 499, nginx's code for a client that closed the connection.
  return Response.json(errorBody(error), { status: error.status, headers: c.res.headers })
}

/** Returns the trace of a sampled request as fields of a log line. The request may have failed before it had one. */
function traceFields(trace: RequestTrace | undefined): object[] {
  if (!trace?.span.isRecording()) return []
  const { traceId, spanId } = trace.span.spanContext()
  return [{ trace_id: traceId, span_id: spanId }]
}

/** Creates the response for a path without a route. */
export function notFoundResponse(c: Context<AppEnv>): Response {
  const error = new AppError(
    'not_found',
    `There is no route '${c.req.method} ${c.req.path}'. The inference routes are 'POST /v1/chat/completions', ` +
      "'POST /v1/completions', 'POST /v1/responses', 'POST /v1/embeddings' and 'GET /v1/models'. If the base URL has a path, it must end in '/v1'. " +
      "'GET /docs' describes all routes.",
  )
  return errorResponse(error, c)
}

/** Has every path of an app reject the methods for which it has no handler. Call it when the app has all its routes. */
export function rejectOtherMethods<E extends Env>(app: Hono<E>): Hono<E> {
  const handlers = app.routes.filter(({ method }) => method !== 'ALL')
  for (const [path, routes] of Map.groupBy(handlers, (route) => route.path)) {
    const allowed = [...new Set(routes.map(({ method }) => method))]
    app.all(path, (c) => {
      c.header('allow', allowed.join(', '))
      const message = `'${c.req.path}' accepts ${allowed.join(' or ')}, not ${c.req.method}.`
      throw new AppError('method_not_allowed', message)
    })
  }
  return app
}

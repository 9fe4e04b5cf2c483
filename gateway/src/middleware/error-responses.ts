import type { Context } from 'hono'
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
      "'POST /v1/completions', 'POST /v1/responses', 'POST /v1/embeddings' and 'GET /v1/models'. If the base URL has a path, it must end in '/v1'.",
  )
  return errorResponse(error, c)
}

/** Creates a handler that rejects all methods but the allowed ones; mount it with `all()` after a path's other handlers. */
export function rejectMethod(...allowed: string[]): (c: Context<AppEnv>) => Response {
  return (c) => {
    c.header('allow', allowed.join(', '))
    return errorResponse(
      new AppError(
        'method_not_allowed',
        `'${c.req.path}' accepts ${allowed.join(' or ')}, not ${c.req.method}.`,
      ),
      c,
    )
  }
}

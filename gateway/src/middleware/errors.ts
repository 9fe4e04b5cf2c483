import type { Context } from 'hono'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import type { AppEnv } from '../contracts/context.ts'
import { chainOf, outageOf } from './outage.ts'

/** Answers anything thrown with the one error shape; what nobody threw on purpose is logged with its stacks. */
export function answerError(thrown: Error, c: Context<AppEnv>): Response {
  const error = outageOf(thrown) ?? toAppError(thrown)
  if (error !== thrown || error.code === 'internal_error') {
    console.error(
      `${c.req.method} ${c.req.path} failed (request ${c.var.requestId}):`,
      chainOf(thrown)
        .map(({ stack }) => stack)
        .join('\ncaused by '),
    )
  }
  c.header('x-request-id', c.var.requestId)
  if (error.status === 401) c.header('www-authenticate', 'Bearer')
  if (error.retryAfterS !== undefined) c.header('retry-after', String(error.retryAfterS))
  // 499 is nginx's; nobody is left to read it, but the type of Hono's statuses does not know it.
  return Response.json(errorBody(error), { status: error.status, headers: c.res.headers })
}

/** Answers a path that nothing is mounted on. */
export function answerNotFound(c: Context<AppEnv>): Response {
  const error = new AppError(
    'not_found',
    `There is nothing at '${c.req.method} ${c.req.path}'. Inference is at 'POST /v1/chat/completions', ` +
      "'POST /v1/completions', 'POST /v1/responses', 'POST /v1/embeddings' and 'GET /v1/models'; if the base URL holds a path, it must end in '/v1'.",
  )
  return answerError(error, c)
}

/** Answers methods that a path does not have; mount it with `all()` after the path's real handlers. */
export function rejectMethod(...allowed: string[]): (c: Context<AppEnv>) => Response {
  return (c) => {
    c.header('allow', allowed.join(', '))
    return answerError(
      new AppError(
        'method_not_allowed',
        `'${c.req.path}' takes ${allowed.join(' or ')}, not ${c.req.method}.`,
      ),
      c,
    )
  }
}

import { SpanStatusCode } from '@opentelemetry/api'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { AppEnv } from '../contracts/context.ts'

/**
 * Creates middleware that records a server span for every sampled request, continues the caller's trace, and exports the
 * spans after the response when a collector is configured.
 */
export function traceRequests(): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const { deps, requestId } = c.var
    const { telemetry } = deps
    const trace = telemetry.tracing.begin(c.req.method, c.req.raw.headers, (spans) =>
      telemetry.send(deps, spans),
    )
    c.set('trace', trace)
    const { span } = trace
    if (!span.isRecording()) return next()
    try {
      await next()
    } finally {
      const route = routePath(c, -1)
      const { status } = c.res
      span.updateName(`${c.req.method} ${route}`)
      span.setAttributes({
        'http.request.method': c.req.method,
        'http.route': route,
        'url.path': c.req.path,
        'http.response.status_code': status,
        'copal.request_id': requestId,
      })
      if (status >= 500) {
        span.setAttribute('error.type', String(status))
        span.setStatus({ code: SpanStatusCode.ERROR })
      }
      span.end()
    }
  }
}

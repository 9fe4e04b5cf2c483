import { SpanStatusCode } from '@opentelemetry/api'
import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { AppEnv } from '../contracts/context.ts'
import { createSpanBatch } from '../telemetry/span-batch.ts'
import { createTracing } from '../telemetry/trace.ts'

/**
 * Creates middleware that records a server span for every request, continues the caller's trace, and exports the spans
 * after the response when a collector is configured.
 */
export function traceRequests(): MiddlewareHandler<AppEnv> {
  const tracing = createTracing()
  const batch = createSpanBatch()
  return async (c, next) => {
    const { deps, requestId } = c.var
    const trace = tracing.begin(c.req.method, c.req.raw.headers, (spans) => batch.add(deps, spans))
    c.set('trace', trace)
    try {
      await next()
    } finally {
      const route = routePath(c, -1)
      trace.span.updateName(`${c.req.method} ${route}`)
      trace.span.setAttributes({
        'http.request.method': c.req.method,
        'http.route': route,
        'url.path': c.req.path,
        'http.response.status_code': c.res.status,
        'copal.request_id': requestId,
      })
      if (c.res.status >= 500) trace.span.setStatus({ code: SpanStatusCode.ERROR })
      trace.span.end()
    }
  }
}

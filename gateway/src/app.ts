import { Hono } from 'hono'
import type { AppEnv } from './context.ts'
import { createDeps } from './deps.ts'
import { answerError, answerNotFound } from './middleware/errors.ts'
import { traceRequests } from './middleware/tracing.ts'
import { healthRoutes } from './routes/health.ts'
import { nodeRoutes } from './routes/internal/nodes.ts'

/** The HTTP side of the gateway; one an isolate, since its key cache and tracer live as long as it does. */
export function createApp(): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.onError(answerError)
  app.notFound(answerNotFound)

  app.use(async (c, next) => {
    c.set('requestId', `req_${crypto.randomUUID().replaceAll('-', '')}`)
    c.set('deps', createDeps(c.env, c.executionCtx))
    await next()
    c.header('x-request-id', c.var.requestId)
  })
  app.use(traceRequests())

  app.route('/', healthRoutes())
  app.route('/internal/nodes', nodeRoutes())
  return app
}

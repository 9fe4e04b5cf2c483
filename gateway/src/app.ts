import { Hono } from 'hono'
import type { AppEnv } from './contracts/context.ts'
import { createDeps } from './deps.ts'
import { createKeyring } from './keys/keyring.ts'
import { createCompletedRequests } from './usage/limits/completed-requests.ts'
import { requireKey } from './middleware/auth.ts'
import { allowCors } from './middleware/cors.ts'
import { answerError, answerNotFound } from './middleware/errors.ts'
import { traceRequests } from './middleware/tracing.ts'
import { adminRoutes } from './routes/admin/admin-routes.ts'
import { chatCompletionRoutes } from './routes/openai/chat-completions.ts'
import { completionRoutes } from './routes/openai/completions.ts'
import { docsRoutes } from './routes/service/docs.ts'
import { embeddingRoutes } from './routes/openai/embeddings.ts'
import { healthRoutes } from './routes/service/health.ts'
import { artifactRoutes } from './routes/internal/artifact-routes.ts'
import { nodeRoutes } from './routes/internal/node-routes.ts'
import { metricsRoutes } from './routes/service/metrics.ts'
import { modelRoutes } from './routes/openai/models.ts'
import { responseRoutes } from './routes/openai/responses.ts'

/**
 * The HTTP side of the gateway; one an isolate, since its key cache and tracer live as long as it does.
 *
 * @param options.recheckKeyMs how often the key of a running request is looked at again
 */
export function createApp(options: { recheckKeyMs?: number } = {}): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  const keyring = createKeyring()
  const answered = createCompletedRequests()
  app.onError(answerError)
  app.notFound(answerNotFound)

  app.use(async (c, next) => {
    c.set('requestId', `req_${crypto.randomUUID().replaceAll('-', '')}`)
    c.set('deps', createDeps(c.env, c.executionCtx))
    c.set('answered', answered)
    // Set on an answer that is there it would make another of it.
    c.header('x-request-id', c.get('requestId'))
    await next()
    if (!c.res.headers.has('x-request-id')) c.header('x-request-id', c.get('requestId'))
  })
  app.use(traceRequests())

  // Without the prefix too, for clients that are given the gateway's address as it stands.
  for (const base of ['/v1', '']) {
    for (const path of ['/chat/*', '/completions', '/embeddings', '/responses/*', '/models/*'])
      app.use(base + path, allowCors(), requireKey(keyring, options.recheckKeyMs))
    app.route(`${base}/chat/completions`, chatCompletionRoutes())
    app.route(`${base}/completions`, completionRoutes())
    app.route(`${base}/embeddings`, embeddingRoutes())
    app.route(`${base}/responses`, responseRoutes())
    app.route(`${base}/models`, modelRoutes())
  }
  app.route('/admin', adminRoutes(keyring))
  app.route('/internal/nodes', nodeRoutes())
  app.route('/internal', artifactRoutes())
  app.route('/', healthRoutes())
  app.route('/', docsRoutes())
  app.route('/', metricsRoutes(keyring))
  return app
}

import { Hono } from 'hono'
import type { AppEnv } from './contracts/context.ts'
import { createDeps } from './deps.ts'
import { createDomainOwners } from './keys/domain-owners.ts'
import { createKeyring } from './keys/keyring.ts'
import { createCompletedRequests } from './usage/limits/completed-requests.ts'
import { createKnownRejections } from './usage/limits/known-rejections.ts'
import { requireKey } from './middleware/auth.ts'
import { allowCors } from './middleware/cors.ts'
import { errorResponse, notFoundResponse, rejectOtherMethods } from './middleware/error-responses.ts'
import { limitLists } from './middleware/list-limit.ts'
import { paceRefusals } from './middleware/refusal-pace.ts'
import { traceRequests } from './middleware/tracing.ts'
import { adminRoutes } from './routes/admin/admin-routes.ts'
import type { StreamTimes } from './routes/admin/overview-routes.ts'
import { chatCompletionRoutes } from './routes/openai/chat-completion-routes.ts'
import { completionRoutes } from './routes/openai/completion-routes.ts'
import { pageRoutes } from './routes/dashboard/page-routes.ts'
import { sessionRoutes } from './routes/dashboard/session-routes.ts'
import { docsRoutes } from './routes/service/docs-routes.ts'
import { embeddingRoutes } from './routes/openai/embedding-routes.ts'
import { healthRoutes } from './routes/service/health-routes.ts'
import { artifactRoutes } from './routes/internal/artifact-routes.ts'
import { nodeRoutes } from './routes/internal/node-routes.ts'
import { metricsRoutes } from './routes/service/metrics-routes.ts'
import { modelRoutes } from './routes/openai/model-routes.ts'
import { responseRoutes } from './routes/openai/response-routes.ts'
import { rootRoutes } from './routes/service/root-routes.ts'

/**
 * Creates the HTTP application of the gateway. Create one for each isolate: its key cache and tracer live as long.
 *
 * @param options.recheckKeyMs interval at which the key of a running request is checked again
 * @param options.streamTimes of the streams of `GET /admin/events`
 */
export function createApp(options: { recheckKeyMs?: number; streamTimes?: StreamTimes } = {}): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  const keyring = createKeyring()
  const completedRequests = createCompletedRequests()
  const knownRejections = createKnownRejections()
  const domainOwners = createDomainOwners()
  const listLimit = limitLists()
  app.onError(errorResponse)
  app.notFound(notFoundResponse)

  app.use(async (c, next) => {
    c.set('requestId', `req_${crypto.randomUUID().replaceAll('-', '')}`)
    c.set('deps', createDeps(c.env, c.executionCtx))
    c.set('completedRequests', completedRequests)
    c.set('knownRejections', knownRejections)
    c.set('domainOwners', domainOwners)
    // Before the handler runs: setting a header on an existing response would copy it.
    c.header('x-request-id', c.get('requestId'))
    const handled = next()
    // Else workerd stops the code of a request whose client disconnects, and what it has begun is never ended.
    c.req.raw.signal.addEventListener('abort', () => c.var.deps.waitUntil(handled), { once: true })
    await handled
    if (!c.res.headers.has('x-request-id')) c.header('x-request-id', c.get('requestId'))
  })
  app.use(paceRefusals())
  app.use(traceRequests())

  // Paths without a route too: a page that calls one can read the error.
  app.use('/v1/*', allowCors())
  // Also without the prefix, for clients whose base URL is the gateway's plain address.
  for (const base of ['/v1', '']) {
    for (const path of ['/chat/*', '/completions', '/embeddings', '/responses/*', '/models/*'])
      app.use(base + path, ...(base === '' ? [allowCors()] : []), requireKey(keyring, options.recheckKeyMs))
    app.use(`${base}/models/*`, listLimit)
    app.route(`${base}/chat/completions`, rejectOtherMethods(chatCompletionRoutes()))
    app.route(`${base}/completions`, rejectOtherMethods(completionRoutes()))
    app.route(`${base}/embeddings`, rejectOtherMethods(embeddingRoutes()))
    app.route(`${base}/responses`, rejectOtherMethods(responseRoutes()))
    app.route(`${base}/models`, rejectOtherMethods(modelRoutes()))
  }
  app.route('/admin', adminRoutes(keyring, options.streamTimes))
  app.route('/dashboard', rejectOtherMethods(sessionRoutes(keyring)))
  app.route('/dashboard', pageRoutes())
  app.route('/internal/nodes', rejectOtherMethods(nodeRoutes()))
  app.route('/internal', rejectOtherMethods(artifactRoutes()))
  app.route('/', rootRoutes())
  app.route('/', rejectOtherMethods(healthRoutes()))
  app.route('/', rejectOtherMethods(docsRoutes()))
  app.route('/', rejectOtherMethods(metricsRoutes(keyring)))
  return app
}

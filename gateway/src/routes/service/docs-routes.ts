import { Hono, type HonoRequest } from 'hono'
import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { createDocument, type OpenApiDocument } from '../../openapi/openapi-document.ts'
import { sessionOf } from '../../middleware/session-cookie.ts'
import { renderDocsPage, type DocsExample } from '../../openapi/docs-page.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'

/** Allows only the page's own style: no scripts, and no external resources. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

/** Creates `GET /openapi.json` and `GET /docs`, which need no key: their content is public. */
export function docsRoutes(): Hono<AppEnv> {
  let created: OpenApiDocument | undefined
  const document = () => (created ??= createDocument())
  return new Hono<AppEnv>()
    .get('/openapi.json', (c) => c.json({ ...document(), servers: [{ url: new URL(c.req.url).origin }] }))
    .get('/docs', async (c) => {
      c.header('content-security-policy', CONTENT_SECURITY_POLICY)
      c.header('x-content-type-options', 'nosniff')
      c.header('referrer-policy', 'no-referrer')
      c.header('cache-control', 'private, no-cache')
      c.header('vary', 'cookie')
      const example = await exampleOf(c.var.deps, c.req)
      return c.html(renderDocsPage(document(), new URL(c.req.url).origin, example))
    })
}

/** Returns the values of the example request for the session of the dashboard; none without a session. */
async function exampleOf(deps: Deps, req: HonoRequest): Promise<DocsExample> {
  // The page is public: without a valid session, or while the database does not respond, it is the page for everybody.
  const signedIn = await sessionOf(deps, req).catch(() => undefined)
  if (!signedIn) return {}
  const { actor } = signedIn.session
  const key = actor.kind === 'operator' ? undefined : actor.key
  const models = await listModels(deps.db).catch(() => [])
  const model = models.find(({ id }) => key?.allowedModels?.includes(id) ?? true)?.id
  if (!key) return { model, signedIn: { name: 'admin key' } }
  const domain = key.defaultDomain === DEFAULT_DOMAIN ? undefined : key.defaultDomain
  return { model, domain, signedIn: { name: key.name, keyPrefix: key.prefix } }
}

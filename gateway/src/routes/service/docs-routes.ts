import { Hono, type HonoRequest } from 'hono'
import { DEFAULT_DOMAIN } from '@copal/shared/wire/admin-keys.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { createDocument } from '../../openapi/openapi-document.ts'
import { sessionOf } from '../../middleware/session-cookie.ts'
import { renderDocsPage, type DocsExample } from '../../openapi/docs-page.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'

/** Allows only the page's own style: no scripts, and no external resources. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

/**
 * Creates `GET /openapi.json` and `GET /docs`, which need no key: their content is public.
 *
 * @param render writes the page; counted in tests
 */
export function docsRoutes(render = renderDocsPage): Hono<AppEnv> {
  let created: ReturnType<typeof createDocument> | undefined
  const document = () => (created ??= createDocument())
  // Anyone may ask for them, as often as they like, and each takes some milliseconds to write.
  const json = forLastOrigin((origin) => JSON.stringify({ ...document(), servers: [{ url: origin }] }))
  const page = forLastOrigin((origin) => render(document(), origin))
  return new Hono<AppEnv>()
    .get('/openapi.json', (c) =>
      c.body(json(new URL(c.req.url).origin), 200, { 'content-type': 'application/json' }),
    )
    .get('/docs', async (c) => {
      c.header('content-security-policy', CONTENT_SECURITY_POLICY)
      c.header('x-content-type-options', 'nosniff')
      c.header('referrer-policy', 'no-referrer')
      c.header('cache-control', 'private, no-cache')
      c.header('vary', 'cookie')
      const { origin } = new URL(c.req.url)
      const example = await exampleOf(c.var.deps, c.req)
      return c.html(example ? render(document(), origin, example) : page(origin))
    })
}

/** Keeps what was written for the last origin. */
function forLastOrigin(write: (origin: string) => string): (origin: string) => string {
  let last: { origin: string; text: string } | undefined
  return (origin) => {
    if (last?.origin !== origin) last = { origin, text: write(origin) }
    return last.text
  }
}

/** Returns the values of the example request for the session of the dashboard; undefined without a session. */
async function exampleOf(deps: Deps, req: HonoRequest): Promise<DocsExample | undefined> {
  // The page is public: without a valid session, or while the database does not respond, it is the page for everybody.
  const signedIn = await sessionOf(deps, req).catch(() => undefined)
  if (!signedIn) return undefined
  const { actor } = signedIn.session
  const key = actor.kind === 'operator' ? undefined : actor.key
  const models = await listModels(deps.db).catch(() => [])
  const model = models.find(({ id }) => key?.allowedModels?.includes(id) ?? true)?.id
  if (!key) return { model, signedIn: { name: 'admin key' } }
  const domain = key.defaultDomain === DEFAULT_DOMAIN ? undefined : key.defaultDomain
  return { model, domain, signedIn: { name: key.name, keyPrefix: key.prefix } }
}

import { Hono } from 'hono'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/errors.ts'
import { createDocument, type OpenApiDocument } from '../../openapi/openapi-document.ts'
import { renderPage } from '../../openapi/docs-page.ts'

/** Nothing but the page's own style: no script runs, and nothing is fetched. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

/** `GET /openapi.json` and `GET /docs`, open to everybody: they tell what is public anyway. */
export function docsRoutes(): Hono<AppEnv> {
  let made: OpenApiDocument | undefined
  const document = () => (made ??= createDocument())
  return new Hono<AppEnv>()
    .get('/openapi.json', (c) => c.json({ ...document(), servers: [{ url: new URL(c.req.url).origin }] }))
    .all('/openapi.json', rejectMethod('GET'))
    .get('/docs', (c) => {
      c.header('content-security-policy', POLICY)
      c.header('x-content-type-options', 'nosniff')
      return c.html(renderPage(document(), new URL(c.req.url).origin))
    })
    .all('/docs', rejectMethod('GET'))
}

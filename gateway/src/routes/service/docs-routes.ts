import { Hono } from 'hono'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'
import { createDocument, type OpenApiDocument } from '../../openapi/openapi-document.ts'
import { renderDocsPage } from '../../openapi/docs-page.ts'

/** Allows only the page's own style: no scripts, and no external resources. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

/** Creates `GET /openapi.json` and `GET /docs`, which need no key: their content is public. */
export function docsRoutes(): Hono<AppEnv> {
  let created: OpenApiDocument | undefined
  const document = () => (created ??= createDocument())
  return new Hono<AppEnv>()
    .get('/openapi.json', (c) => c.json({ ...document(), servers: [{ url: new URL(c.req.url).origin }] }))
    .all('/openapi.json', rejectMethod('GET'))
    .get('/docs', (c) => {
      c.header('content-security-policy', CONTENT_SECURITY_POLICY)
      c.header('x-content-type-options', 'nosniff')
      return c.html(renderDocsPage(document(), new URL(c.req.url).origin))
    })
    .all('/docs', rejectMethod('GET'))
}

import { Hono } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { files as BUILT_FILES, type BuiltFile } from '../../../dashboard/built-files.mjs'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectOtherMethods } from '../../middleware/error-responses.ts'

/** The page loads its own files and nothing else, calls only this service, and stands in no frame. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
  "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

const SECURITY_HEADERS = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
}

const NOT_BUILT = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>copal</title></head>
<body><h1>The dashboard is not built</h1>
<p>This service was started or deployed without the files of the dashboard. Build them with
<code>node gateway/dashboard/build.mjs</code> and start or deploy it again: <code>npm start</code> and
<code>npm run deploy</code> do both, and say why the build fails.</p>
<p>The API works without it: see <a href="/docs">the reference</a>.</p></body></html>
`

/**
 * Creates the routes of the dashboard's page and of its files. Each path below is a page of the client's router.
 *
 * @param files the built files; none in a test
 */
export function pageRoutes(files: readonly BuiltFile[] = BUILT_FILES): Hono<AppEnv> {
  const byName = new Map(files.map((file) => [file.name, file]))
  const app = new Hono<AppEnv>()
    .get('/:file{[a-z]+-[A-Z0-9]{8}\\.[a-z0-9]+}', (c) => {
      const file = byName.get(c.req.param('file'))
      if (!file)
        throw new AppError('not_found', `The dashboard has no file '${c.req.path}'. Load the page again.`)
      // The name contains the hash of the content.
      return respond(c.req, file, 'public, max-age=31536000, immutable')
    })
    .get('*', (c) => {
      const page = byName.get('index.html')
      if (page) return respond(c.req, page, 'no-cache')
      const headers = { ...SECURITY_HEADERS, 'content-type': 'text/html; charset=utf-8' }
      return new Response(NOT_BUILT, { status: 503, headers })
    })
  return rejectOtherMethods(app)
}

function respond(
  req: { header: (name: string) => string | undefined },
  { name, etag, body }: BuiltFile,
  cacheControl: string,
): Response {
  const headers = {
    ...SECURITY_HEADERS,
    'content-type': MEDIA_TYPES[name.split('.').at(-1) ?? ''] ?? 'application/octet-stream',
    'cache-control': cacheControl,
    etag: `"${etag}"`,
  }
  // A proxy that compresses marks it as weak.
  const isKnown = req.header('if-none-match')?.includes(`"${etag}"`)
  return isKnown ? new Response(null, { status: 304, headers }) : new Response(body, { headers })
}

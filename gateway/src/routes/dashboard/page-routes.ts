import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'

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

const NOT_BUILT = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>copal</title></head>
<body><h1>The dashboard is not built</h1>
<p>This service was started or deployed without the files of the dashboard. Build them with
<code>node gateway/dashboard/build.mjs</code> and start or deploy it again: <code>npm start</code> and
<code>npm run deploy</code> do both.</p>
<p>The API works without it: see <a href="/docs">the reference</a>.</p></body></html>
`

/** Creates the routes of the dashboard's page and of its files. Each path below is a page of the client's router. */
export function pageRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/:file{[a-z]+-[A-Z0-9]{8}\\.[a-z0-9]+}', async (c) => {
      const file = await findFile(c, `/${c.req.param('file')}`)
      if (!file)
        throw new AppError('not_found', `The dashboard has no file '${c.req.path}'. Load the page again.`)
      // The name contains the hash of the content.
      return respond(file, 'public, max-age=31536000, immutable')
    })
    .get('*', async (c) => {
      const page = await findFile(c, '/index.html')
      if (page) return respond(page, 'no-cache')
      return new Response(NOT_BUILT, {
        status: 503,
        headers: { ...SECURITY_HEADERS, 'content-type': 'text/html; charset=utf-8' },
      })
    })
    .all('*', rejectMethod('GET'))
}

/** Returns a built file, or that the client has it already; undefined if there is none. */
async function findFile(c: Context<AppEnv>, path: string): Promise<Response | undefined> {
  const known = c.req.header('if-none-match')
  const headers = known === undefined ? {} : { 'if-none-match': known }
  // The name of the host does not matter.
  const response = await c.var.deps.assets?.fetch(new URL(path, 'https://assets'), { headers })
  return response?.ok === true || response?.status === 304 ? response : undefined
}

function respond(file: Response, cacheControl: string): Response {
  const kept = ['content-type', 'etag'].flatMap((name) => {
    const value = file.headers.get(name)
    return value === null ? [] : [[name, value] as const]
  })
  return new Response(file.body, {
    status: file.status,
    headers: { ...SECURITY_HEADERS, ...Object.fromEntries(kept), 'cache-control': cacheControl },
  })
}

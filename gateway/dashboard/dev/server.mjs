/**
 * Serves the built dashboard with the responses of an invented service, to look at it in each state:
 * `node gateway/dashboard/dev/server.mjs [port] [live|empty|failing|stale|forbidden|signed-out|many|minutes]`
 */
import { rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { extname, join } from 'node:path'
import { buildDashboard } from '../build.mjs'
import { answer } from './responses/answer.ts'
import { overview } from './responses/overview.ts'
import { openApi, setPolicy } from './responses/policy.ts'
import { respond } from './responses/respond.ts'

const [port = '8790', mode = 'live'] = process.argv.slice(2)
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' }
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
/** A folder of its own, so that servers in several states and other builds are independent. */
const DIST = await mkdtemp(join(tmpdir(), 'copal-dashboard-'))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit())
process.on('exit', () => rmSync(DIST, { recursive: true, force: true }))
await buildDashboard(DIST)

const session = {
  role: 'operator',
  name: 'admin key',
  tenant: null,
  may_change: true,
  csrf: 'c',
  expires_at: new Date(Date.now() + 3.6e6).toISOString(),
}

let asked = 0
createServer((request, response) => void answerRequest(request, response)).listen(Number(port), () =>
  process.stdout.write(`http://localhost:${port}/dashboard\n`),
)

async function answerRequest(request, response) {
  const url = new URL(request.url, 'http://localhost')
  const send = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(body))
  }
  const fail = (status, code, message) => send(status, { error: { message, code } })
  if (url.pathname === '/dashboard/session') {
    if (mode === 'signed-out' && request.method === 'GET') return fail(401, 'invalid_api_key', 'Sign in.')
    return send(200, session)
  }
  if (url.pathname === '/admin/events') {
    if (mode !== 'live') return fail(404, 'not_found', 'No events.')
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const tick = () => response.write(`event: overview\ndata: ${JSON.stringify(overview())}\n\n`)
    tick()
    const timer = setInterval(tick, 2_000)
    response.on('close', () => clearInterval(timer))
    return
  }
  if (url.pathname.startsWith('/admin/')) {
    asked++
    if (mode === 'forbidden')
      return fail(403, 'insufficient_permissions', "This needs the scope 'read-admin'.")
    if (mode === 'failing') return fail(503, 'not_configured', 'The database D1 did not respond within 5 s.')
    if (mode === 'stale' && asked > 2) return request.socket.destroy()
    if (request.method === 'PUT' && url.pathname === '/admin/policy') {
      try {
        return send(200, setPolicy(await readJson(request)))
      } catch (cause) {
        return fail(400, 'invalid_request', cause.message)
      }
    }
    const body = request.method === 'GET' ? await respond(url, mode) : {}
    return body === undefined ? fail(404, 'not_found', `There is no ${url.pathname}.`) : send(200, body)
  }
  if (url.pathname === '/v1/chat/completions') return stream(request, response)
  if (url.pathname === '/openapi.json') return send(200, openApi())
  const file = url.pathname.replace('/dashboard/', '')
  const content = await readFile(join(DIST, file)).catch(() => undefined)
  response.writeHead(200, {
    'content-type': content ? TYPES[extname(file)] : 'text/html',
    'content-security-policy': CSP,
  })
  response.end(content ?? (await readFile(join(DIST, 'index.html'))))
}

/** Streams an answer, one token every 30 ms; dense weights are slower. */
async function stream(request, response) {
  const { model } = await readJson(request)
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  for (const data of answer(model)) {
    await new Promise((resolve) => setTimeout(resolve, model.endsWith('@dense') ? 45 : 30))
    response.write(`data: ${data}\n\n`)
  }
  response.end()
}

async function readJson(request) {
  let body = ''
  for await (const part of request) body += part
  return JSON.parse(body)
}

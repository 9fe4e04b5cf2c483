import { exports } from 'cloudflare:workers'
import { beforeAll, expect, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import type { OpenApiDocument } from '../../../../gateway/src/openapi/openapi-document.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { signIn, type Browser } from '../../support/requests/dashboard-session.ts'
import { errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'

interface Documented {
  method: string
  path: string
  /** The schemes of each way to authenticate. */
  ways: string[]
}

let operations: Documented[]
/** Sessions of a key that only reads, so that nothing is changed here. */
let browser: Browser

beforeAll(async () => {
  const document = await (await exports.default.fetch(`${ORIGIN}/openapi.json`)).json<OpenApiDocument>()
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security }]) => ({
      method: method.toUpperCase(),
      path: path.replaceAll(/\{\w+\}/g, 'x'),
      ways: security.map((way) => Object.keys(way).join('+')),
    })),
  )
  const scopes = ['read-admin' as const]
  const { key } = await adminJson<CreatedKey>('POST', '/keys', { name: 'of a reader', scopes })
  browser = await signIn({ key })
})

/** Sends the request of an operation, and returns what the gateway made of its session. */
async function outcome({ method, path }: Documented, headers: Record<string, string>): Promise<string> {
  const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} }
  const response = await browser.send(method, path, { ...body, headers })
  if (response.ok) {
    await response.body?.cancel()
    return 'accepted'
  }
  const { param, code } = await errorOf(response)
  if (code === 'invalid_api_key') return 'refused'
  return param === 'x-copal-csrf' ? 'csrf missing' : 'accepted'
}

test('a session is accepted by the operations that name its cookie, and by no other', async () => {
  const all = operations.filter(({ ways, path }) => ways.length > 0 && path !== '/dashboard/session')
  expect(all.length).toBeGreaterThan(70)
  const named = all.filter(({ ways }) => ways.some((way) => way.split('+').includes('session')))
  for (const operation of named)
    expect([operation, await outcome(operation, {})]).toEqual([operation, 'accepted'])
  const others = all.filter((operation) => !named.includes(operation))
  expect(others.map(({ path }) => path)).toEqual(['/admin/dashboard-links'])
  const owner = await signIn()
  const link = await owner.send('POST', '/admin/dashboard-links')
  expect([link.status, (await errorOf(link)).code]).toEqual([403, 'insufficient_permissions'])
})

test('a change by a session needs the header that the document names, and reading does not', async () => {
  for (const operation of operations.filter(({ ways }) => ways.some((way) => way.includes('session')))) {
    const needsSecret = operation.ways.some((way) => way.includes('csrf'))
    const seen = await outcome(operation, { 'x-copal-csrf': '' })
    expect([operation, seen]).toEqual([operation, needsSecret ? 'csrf missing' : 'accepted'])
  }
})

test('an operation without a way to authenticate answers everybody', () => {
  expect(
    operations.filter(({ ways }) => ways.length === 0).map(({ method, path }) => `${method} ${path}`),
  ).toEqual(['POST /dashboard/session', 'GET /health', 'GET /openapi.json', 'GET /docs'])
})

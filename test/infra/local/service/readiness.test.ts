import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test, vi } from 'vitest'
import { describeOtherKeys } from '../../../../infra/local/start/banner.ts'
import { ensureApiKey } from '../../../../infra/local/service/readiness.ts'

const CREATED = {
  id: 'key-1',
  name: 'local',
  tenant: 'default',
  prefix: 'sk-copal-new',
  scopes: ['inference'],
  default_domain: 'general',
  discover_domains: false,
  allowed_domains: null,
  allowed_models: null,
  sampling: 'opt_in',
  limits: {
    requests_per_minute: null,
    tokens_per_minute: null,
    tokens_per_month: null,
    concurrent_requests: null,
  },
  created_at: '2026-01-01T00:00:00.000Z',
  expires_at: null,
  previous_valid_until: null,
  key: 'sk-copal-new-key',
} as const

const { key: CREATED_KEY, ...ENTRY } = CREATED
const KEYS = [ENTRY, { ...ENTRY, id: 'key-0' }, { ...ENTRY, id: 'key-a', name: 'application' }]

test('a call for the API key to which the gateway never responds is repeated', async () => {
  const requests: string[] = []
  let timeout = new AbortController()
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    // The first call of each kind gets no response until its time is over.
    if (requests.filter((one) => one === requests.at(-1)).length === 1) timeout.abort()
    else if (request.url === '/v1/models') response.writeHead(401).end()
    else if (request.method === 'GET')
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ data: KEYS }))
    else response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify(CREATED))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const timeouts = vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => {
    timeout = new AbortController()
    return timeout.signal
  })
  onTestFinished(() => timeouts.mockRestore())
  const saveApiKey = vi.fn<(apiKey: string, origin: string) => void>()
  const home = {
    secrets: { nodeSecret: '', keyPepper: '', apiKey: 'sk-copal-old', adminKey: 'copal-admin' },
    saveApiKey,
  }
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { apiKey, others } = await ensureApiKey(origin, home, new AbortController().signal)
  expect(apiKey).toBe(CREATED_KEY)
  // A key that a lost response or a lost home has left behind is named with the command that revokes it.
  expect(others.map(({ id }) => id)).toEqual(['key-0'])
  expect(describeOtherKeys(others)).toEqual([
    "There is another API key called 'local' (key-0, created 2026-01-01T00:00:00.000Z). This service does not use it. " +
      'If nothing else does, revoke it: npx copal keys revoke key-0\n',
  ])
  expect(saveApiKey.mock.calls).toEqual([[CREATED.key, origin]])
  expect(requests).toEqual(
    ['GET /v1/models', 'POST /admin/keys', 'GET /admin/keys'].flatMap((call) => [call, call]),
  )
  // A gateway that is only slow must be able to respond, and a key is created by each call.
  expect(timeouts.mock.calls).toEqual([[5000], [10_000], [5000], [10_000], [5000], [10_000]])
})

test.each([
  ['an error', 500, '{}'],
  ['something else', 200, '{"data":[{}]}'],
])('a list of keys that is %s does not end a start whose key was created', async (_, status, body) => {
  const ending = new AbortController()
  let isEnding = false
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'application/json')
    if (request.method === 'POST') response.writeHead(201).end(JSON.stringify(CREATED))
    else if (isEnding) ending.abort()
    else response.writeHead(status).end(body)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const home = {
    secrets: { nodeSecret: '', keyPepper: '', apiKey: undefined, adminKey: 'copal-admin' },
    saveApiKey: () => undefined,
  }
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const key = await ensureApiKey(origin, home, ending.signal)
  expect(key).toEqual({ apiKey: CREATED_KEY, others: [] })
  isEnding = true
  await expect(ensureApiKey(origin, home, ending.signal)).rejects.toThrow('aborted')
})

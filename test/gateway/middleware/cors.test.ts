import { exports } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { sendHeartbeat, createKey, ORIGIN } from '../support/requests/gateway-requests.ts'
import { startNode } from '../support/doubles/node-double.ts'

const EVENTS = ['data: {"a":1}\n\n', 'data: [DONE]\n\n']
const call = (method: string, path: string, headers: Record<string, string>, body?: string) =>
  exports.default.fetch(
    new Request(ORIGIN + path, { method, headers, ...(body === undefined ? {} : { body }) }),
  )
const page = { origin: 'https://page.example' }
const preflight = {
  ...page,
  'access-control-request-method': 'POST',
  'access-control-request-headers': 'authorization,content-type,x-stainless-lang',
}

test.each(['/v1/chat/completions', '/v1/responses', '/embeddings', '/v1/models', '/v1/moderations'])(
  'a web page may call %s with any header and without cookies',
  async (path) => {
    const response = await call('OPTIONS', path, preflight)
    expect(response.status).toBe(204)
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'access-control-allow-origin': '*',
      'access-control-allow-methods': 'GET,POST',
      'access-control-allow-headers': 'authorization,content-type,x-stainless-lang',
      'access-control-max-age': '86400',
    })
    expect(response.headers.has('access-control-allow-credentials')).toBe(false)
  },
)

test('a web page can read responses, streams and errors with their headers', async () => {
  const node = await startNode('browsed-1', [
    { kind: 'stream', headers: { 'content-type': 'text/event-stream' }, chunks: EVENTS, ending: 'end' },
  ])
  await sendHeartbeat(node, 'browsed')
  const { key } = await createKey()
  const headers = { ...page, authorization: `Bearer ${key}` }
  const body = JSON.stringify({ model: 'browsed', prompt: 'Once', stream: true })
  const stream = await call('POST', '/v1/completions', headers, body)
  const answers = [
    stream,
    await call('GET', '/v1/models', headers),
    await call('POST', '/v1/completions', page, body),
    await call('POST', '/v1/moderations', headers, body),
  ]
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 401, 404])
  expect(await stream.text()).toBe(EVENTS.join(''))
  for (const answer of answers) {
    expect(answer.headers.get('access-control-allow-origin')).toBe('*')
    expect(answer.headers.get('access-control-expose-headers')).toBe('*')
    expect(answer.headers.get('x-request-id')).toMatch(/^req_/)
  }
})

test('the admin API, node routes and requests without an origin get no CORS headers', async () => {
  const answers = [
    await call('OPTIONS', '/admin/keys', preflight),
    await call('OPTIONS', '/internal/nodes/heartbeat', preflight),
    await call('GET', '/metrics', page),
    await call('GET', '/v1/models', {}),
    await call('OPTIONS', '/v1/models', {}),
  ]
  for (const answer of answers) {
    expect(answer.status).toBeGreaterThanOrEqual(400)
    expect([...answer.headers.keys()].filter((name) => name.startsWith('access-control'))).toEqual([])
  }
})

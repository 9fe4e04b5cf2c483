import { exports } from 'cloudflare:workers'
import { beforeAll, expect, test } from 'vitest'
import { fetchDocumented } from '../../support/requests/documented.ts'
import { sendHeartbeat, createKey, errorOf, ORIGIN, post } from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'

let key: string
let node: NodeDouble
const hello = { model: 'picky', messages: [{ role: 'user', content: 'Hello.' }] }

beforeAll(async () => {
  key = (await createKey()).key
  node = await startNode('picky-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'picky')
})

const CHAT = '/v1/chat/completions'
const COMPLETIONS = '/v1/completions'

test.each<[string, string, unknown, number, string, string | null, RegExp]>([
  ['malformed JSON', CHAT, '{"model":', 400, 'invalid_request', null, /not valid JSON/],
  ['an empty body', CHAT, '', 400, 'invalid_request', null, /not valid JSON/],
  ['JSON that is not an object', CHAT, '[1]', 400, 'invalid_request', null, /expected an object/],
  [
    'a wrong type',
    CHAT,
    { ...hello, temperature: 'hot' },
    400,
    'invalid_request',
    'temperature',
    /expected a number/,
  ],
  ['a value out of range', CHAT, { ...hello, top_p: 2 }, 400, 'invalid_request', 'top_p', /at most 1\b/],
  ['no model', CHAT, { messages: hello.messages }, 400, 'invalid_request', 'model', /'model' is missing/],
  [
    'no messages',
    CHAT,
    { ...hello, messages: [] },
    400,
    'invalid_request',
    'messages',
    /at least one message/,
  ],
  [
    'a message of no parts',
    CHAT,
    { ...hello, messages: [...hello.messages, { role: 'user', content: [] }] },
    400,
    'invalid_request',
    'messages[1].content',
    /at least 1 item\b/,
  ],
  [
    'an image',
    CHAT,
    { ...hello, messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
    400,
    'invalid_request',
    'messages[0].content[0].type',
    /only text parts/,
  ],
  [
    'an unknown role',
    CHAT,
    { ...hello, messages: [{ role: 'wizard', content: '' }] },
    400,
    'invalid_request',
    'messages[0].role',
    /"user"/,
  ],
  ['too many choices', CHAT, { ...hello, n: 33 }, 400, 'invalid_request', 'n', /at most 32\b/],
  [
    'a list of texts and token ids',
    COMPLETIONS,
    { model: 'picky', prompt: ['a', [1]] },
    400,
    'invalid_request',
    'prompt',
    /a text, a list of token ids/,
  ],
  ['an empty prompt', COMPLETIONS, { model: 'picky', prompt: '' }, 400, 'invalid_request', 'prompt', /./],
  [
    'an unknown model',
    CHAT,
    { ...hello, model: 'gpt-9' },
    404,
    'model_not_found',
    'model',
    /'gpt-9' does not exist.*'picky'/,
  ],
  [
    '10 MB',
    COMPLETIONS,
    { model: 'picky', prompt: 'a'.repeat(10_000_000) },
    413,
    'body_too_large',
    null,
    /larger than 1 MiB/,
  ],
])('%s is rejected in OpenAI’s error shape', async (_what, path, body, status, code, param, message) => {
  const response = await post(key, path, body)
  expect(response.status).toBe(status)
  const error = await errorOf(response)
  expect(error).toEqual({
    code,
    param,
    type: 'invalid_request_error',
    message: expect.stringMatching(message) as string,
  })
  expect(response.headers.get('x-request-id')).toMatch(/^req_/)
})

test('an endless body without a length is rejected without being buffered', async () => {
  let sentBytes = 0
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sentBytes += 65_536
      controller.enqueue(new Uint8Array(65_536).fill(0x20))
    },
  })
  const response = await fetchDocumented(
    new Request(ORIGIN + CHAT, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: endless,
    }),
  )
  expect(response.status).toBe(413)
  expect((await errorOf(response)).code).toBe('body_too_large')
  expect(sentBytes).toBeLessThan(80 * 1024 * 1024)
})

test('a body that is not UTF-8 is rejected with that reason', async () => {
  const body = new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d])
  const response = await fetchDocumented(
    new Request(ORIGIN + CHAT, { method: 'POST', headers: { authorization: `Bearer ${key}` }, body }),
  )
  expect(await errorOf(response)).toMatchObject({
    code: 'invalid_request',
    message: 'The request body is not valid UTF-8.',
  })
})

test('a compressed body is rejected with that reason, and one that is encoded as itself is read', async () => {
  const gzipped = new Response(JSON.stringify(hello)).body!.pipeThrough(new CompressionStream('gzip'))
  const body = await new Response(gzipped).arrayBuffer()
  const headers = { authorization: `Bearer ${key}`, 'content-encoding': 'gzip' }
  const response = await fetchDocumented(new Request(ORIGIN + CHAT, { method: 'POST', headers, body }))
  expect(response.status).toBe(400)
  expect(await errorOf(response)).toMatchObject({
    code: 'invalid_request',
    param: 'content-encoding',
    message: "The request body is compressed. Send it without 'Content-Encoding'.",
  })
  const plain = await post(key, CHAT, { ...hello, n: 0 }, { headers: { 'content-encoding': 'identity' } })
  expect(await errorOf(plain)).toMatchObject({ param: 'n' })
})

test.each(['Legal & order', 'UPPER', '-dash', 'a'.repeat(65), 'l%C3%A4w'])(
  'the domain %j is rejected',
  async (domain) => {
    const response = await post(key, CHAT, hello, { headers: { 'x-copal-domain': domain } })
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({
      param: 'x-copal-domain',
      message: expect.stringMatching(/^Invalid 'x-copal-domain': expected a domain name/) as string,
    })
  },
)

test('a consent header other than true and false is rejected', async () => {
  const response = await post(key, CHAT, hello, { headers: { 'x-copal-sample': 'yes' } })
  expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param: 'x-copal-sample' })
})

test('an unknown path is a 404 that lists the inference routes, and says where all are', async () => {
  const response = await post(key, '/v1/chat/completion', hello)
  expect(response.status).toBe(404)
  expect(await errorOf(response)).toMatchObject({
    code: 'not_found',
    message: expect.stringMatching(/\/v1\/chat\/completions.*'GET \/docs' describes all routes\.$/) as string,
  })
  expect((await exports.default.fetch(`${ORIGIN}/nothing`)).status).toBe(404)
})

test('reading or deleting an earlier response is a 404 that says that responses are not stored', async () => {
  for (const [method, path] of [
    ['GET', '/v1/responses/resp_1'],
    ['DELETE', '/v1/responses/resp_1'],
    ['POST', '/v1/responses/resp_1/cancel'],
  ] as const) {
    const response = await exports.default.fetch(
      new Request(ORIGIN + path, { method, headers: { authorization: `Bearer ${key}` } }),
    )
    expect([path, response.status]).toEqual([path, 404])
    expect((await errorOf(response)).message).toContain('not stored')
  }
})

test('a wrong method is a 405 that names the right one', async () => {
  const response = await exports.default.fetch(
    new Request(ORIGIN + CHAT, { headers: { authorization: `Bearer ${key}` } }),
  )
  expect(response.status).toBe(405)
  expect(response.headers.get('allow')).toBe('POST')
  expect(await errorOf(response)).toMatchObject({ code: 'method_not_allowed' })
  expect((await post(key, '/v1/models', {})).status).toBe(405)
  expect((await post(key, '/health', {})).headers.get('allow')).toBe('GET')
})

test('no rejected request reached the node', async () => {
  expect(await node.calls()).toEqual([])
})

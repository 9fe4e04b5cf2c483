import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { revokeKey } from '../../../gateway/src/storage/db/queries/key-queries.ts'
import { digestOf, generateKey, pepperedHash } from '../../../gateway/src/keys/key-secret.ts'
import { fetchDocumented } from '../support/requests/documented.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  ORIGIN,
  post,
  until,
} from '../support/requests/gateway-requests.ts'
import { loseDatabase } from '../support/faults/lost-database.ts'
import { startNode } from '../support/doubles/node-double.ts'
import { TEST_ADMIN_KEY } from '../support/setup/secrets.ts'

const SSE = { 'content-type': 'text/event-stream', 'x-copal-mask': '0' }

async function refusal(path: string, authorization?: string) {
  const response = await fetchDocumented(
    new Request(ORIGIN + path, authorization === undefined ? {} : { headers: { authorization } }),
  )
  expect(response.status).toBe(401)
  expect(response.headers.get('www-authenticate')).toBe('Bearer')
  const error = await errorOf(response)
  expect(error).toMatchObject({ code: 'invalid_api_key', type: 'authentication_error', param: null })
  return error.message
}

describe('an API key', () => {
  test('opens the inference API', async () => {
    const { key } = await createKey()
    expect((await get('/v1/models', key)).status).toBe(200)
    expect(
      (
        await fetchDocumented(
          new Request(`${ORIGIN}/v1/models`, { headers: { authorization: `bearer ${key}` } }),
        )
      ).status,
    ).toBe(200)
  })

  test('is rejected with instructions when it is missing, malformed or unknown', async () => {
    expect(await refusal('/v1/models')).toBe(
      "Send an API key in the header 'Authorization: Bearer sk-copal-…'.",
    )
    expect(await refusal('/v1/models', 'Basic abc')).toContain('malformed')
    expect(await refusal('/v1/models', 'Bearer a b')).toContain('malformed')
    expect(await refusal('/v1/models', `Bearer ${'x'.repeat(600)}`)).toContain('malformed')
    expect(await refusal('/v1/models', 'Bearer sk-proj-1')).toContain("does not begin with 'sk-copal-'")
    expect(await refusal('/v1/models', 'Bearer sk-copal-wrong')).toBe(
      "The API key 'sk-copal-wrong' is unknown or was revoked. Check it, or ask for a new one.",
    )
  })

  test('gets a 503 with Retry-After while the database fails, unless it was verified before', async () => {
    const [trusted, other] = [(await createKey()).key, (await createKey()).key]
    expect((await get('/v1/models', trusted)).status).toBe(200)
    loseDatabase()
    const response = await get('/v1/models', other)
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
    expect(await errorOf(response)).toMatchObject({ code: 'service_unavailable', type: 'server_error' })
    // Only the body is invalid, so the key was accepted.
    expect((await post(trusted, '/v1/completions', {})).status).toBe(400)
  })

  test('is never repeated in full in a response', async () => {
    const { key } = generateKey()
    const message = await refusal('/v1/models', `Bearer ${key}`)
    expect(message).toContain(key.slice(0, 15))
    expect(message).not.toContain(key)
  })

  test('is not interchangeable with the admin key, and the error says so', async () => {
    expect(await refusal('/v1/models', `Bearer ${TEST_ADMIN_KEY}`)).toContain('This is the admin key')
    expect(await refusal('/metrics', 'Bearer guess')).toMatch(
      /^This is neither the admin key nor an API key\. .*credentials\.json of COPAL_HOME.*ADMIN_KEY_SHA256\.$/,
    )
    expect(await refusal('/metrics', 'Bearer sk-copal-guess')).toContain('is unknown or was revoked')
    expect(await refusal('/admin/anything')).toContain('Send the admin key')
  })

  test('is rejected after its revocation as soon as the 30 s key cache expires', async () => {
    const { id, key } = await createKey()
    expect((await get('/v1/models', key)).status).toBe(200)
    expect(await revokeKey(openDatabase(env.DB), id, Date.now())).toBe(true)
    expect(await revokeKey(openDatabase(env.DB), id, Date.now())).toBe(false)
    const now = Date.now
    try {
      Date.now = () => now() + 30_001
      expect((await get('/v1/models', key)).status).toBe(401)
    } finally {
      Date.now = now
    }
  })

  test('has 192 random bits, and its hash depends on the pepper', async () => {
    const [first, second] = [generateKey(), generateKey()]
    expect(first.key).toMatch(/^sk-copal-[A-Za-z0-9_-]{32}$/)
    expect(first.key).not.toBe(second.key)
    expect(first.key.startsWith(first.prefix)).toBe(true)
    const digest = await digestOf(first.key)
    const hashes = await Promise.all([pepperedHash('a', digest), pepperedHash('b', digest)])
    expect(new Set([digest, ...hashes]).size).toBe(3)
    expect(await pepperedHash('a', digest)).toBe(hashes[0])
  })
})

test.each([
  ['no NODE_SECRET', { NODE_SECRET: undefined }, /NODE_SECRET is missing/],
  ['a short NODE_SECRET', { NODE_SECRET: 'short' }, /shorter than 16/],
  [
    'the secret of a node',
    { NODE_SECRET: `node-1:${'5'.repeat(64)}` },
    /is the secret of node 'node-1'\. Set the gateway's own secret/,
  ],
  ['no ADMIN_KEY_SHA256', { ADMIN_KEY_SHA256: undefined }, /ADMIN_KEY_SHA256 must be/],
  ['no KEY_PEPPER', { KEY_PEPPER: undefined }, /KEY_PEPPER is missing/],
  ['a short KEY_PEPPER', { KEY_PEPPER: 'x'.repeat(31) }, /shorter than 32/],
  ['a key as ADMIN_KEY_SHA256', { ADMIN_KEY_SHA256: TEST_ADMIN_KEY }, /64 hexadecimal digits/],
])('a gateway with %s reports what is not configured', async (_what, changes, message) => {
  const log = vi.spyOn(console, 'error').mockImplementation(() => {})
  const ctx = createExecutionContext()
  const response = await createApp().request('/health', {}, { ...env, ...changes }, ctx)
  await waitOnExecutionContext(ctx)
  expect(response.status).toBe(500)
  expect((await errorOf(response)).message).toMatch(message)
  expect(log).toHaveBeenCalledOnce()
  log.mockRestore()
})

test.each([true, false])(
  'a response whose key is revoked while it runs ends with an error that is not blamed on the node (stream: %s)',
  async (stream) => {
    const { id, key } = await createKey()
    const node = await startNode(`revoked-${stream}`, [
      stream
        ? { kind: 'stream', headers: SSE, chunks: ['data: {"a":1}\n\n'], ending: 'hang' }
        : { kind: 'stream', headers: { 'content-type': 'application/json' }, chunks: [' '], ending: 'hang' },
    ])
    await sendHeartbeat(node, `revoked-${stream}`)
    const ctx = createExecutionContext()
    const pending = createApp({ recheckKeyMs: 20 }).request(
      '/v1/completions',
      {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ model: `revoked-${stream}`, prompt: 'x', stream }),
      },
      env,
      ctx,
    )
    await until('the call', async () => ((await node.calls()).length === 1 ? true : undefined))
    await revokeKey(openDatabase(env.DB), id, Date.now())
    expect((await node.calls())[0]?.leftAtMs).toBeNull()
    const now = Date.now
    Date.now = () => now() + 30_000
    onTestFinished(() => {
      Date.now = now
    })
    const response = await pending
    expect(response.status).toBe(stream ? 200 : 401)
    const text = await response.text()
    expect(text).toContain('"code":"invalid_api_key"')
    expect(text).not.toContain('[DONE]')
    await until('the node to be left', async () => (await node.calls())[0]?.leftAtMs ?? undefined)
    await waitOnExecutionContext(ctx)
    Date.now = now
    const { nodes } = await env.FLEET.get(env.FLEET.idFromName('fleet')).snapshot()
    expect(nodes.find((one) => one.id === node.id)?.alive).toBe(true)
  },
)

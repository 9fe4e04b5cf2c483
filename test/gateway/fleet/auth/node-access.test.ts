import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { createDeps } from '../../../../gateway/src/deps.ts'
import type { Bindings } from '../../../../gateway/src/contracts/bindings.ts'
import { readAccess } from '../../../../gateway/src/fleet/auth/node-access.ts'
import { sendHeartbeat, createKey, errorOf, ORIGIN } from '../../support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import type { NodeStep } from '../../support/doubles/node-script.ts'

const TOKEN = { NODE_ACCESS_CLIENT_ID: 'id.access', NODE_ACCESS_CLIENT_SECRET: 'token-nobody-may-see' }
const SENT = { 'cf-access-client-id': 'id.access', 'cf-access-client-secret': 'token-nobody-may-see' }
const ANSWER = { kind: 'answer', body: '{"ok":1}' } as const

/** Sends a completion to a gateway with additional bindings, and returns everything that it logs meanwhile. */
async function complete(model: string, bindings: Partial<Bindings>, headers: Record<string, string> = {}) {
  const logged: unknown[] = []
  for (const level of ['error', 'warn', 'info', 'log', 'debug'] as const)
    vi.spyOn(console, level).mockImplementation((...told) => void logged.push(...told))
  onTestFinished(() => void vi.restoreAllMocks())
  const { key } = await createKey()
  const ctx = createExecutionContext()
  const response = await createApp().request(
    `${ORIGIN}/v1/completions`,
    {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, ...headers },
      body: JSON.stringify({ model, prompt: 'x', max_tokens: 1 }),
    },
    { ...env, ...bindings },
    ctx,
  )
  const text = await response.clone().text()
  await waitOnExecutionContext(ctx)
  const told = [text, JSON.stringify([...response.headers]), ...logged.map(String)].join('\n')
  return { response, told }
}

const accessOf = async (node: NodeDouble) =>
  (await node.calls()).map(({ headers }) =>
    Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('cf-access'))),
  )

describe('a service token', () => {
  test('is sent with calls and health checks of nodes, and clients can neither send nor see it', async () => {
    const node = await startNode('access-1', [{ ...ANSWER, headers: SENT }])
    await sendHeartbeat(node, 'access')
    const bindings = { ...env, ...TOKEN }
    const { response, told } = await complete('access', bindings, {
      'cf-access-client-id': 'of the client',
      'cf-access-client-secret': 'of the client',
    })
    expect(response.status).toBe(200)
    expect(told).not.toMatch(/cf-access|token-nobody-may-see/i)
    await createDeps(bindings, createExecutionContext()).nodeFetch(new URL(`${node.url}/health`), {})
    expect(await accessOf(node)).toEqual([SENT, SENT])
    // Without a token the headers are absent, even if the client sends them.
    await complete('access', {}, { 'cf-access-client-id': 'of the client' })
    expect((await accessOf(node)).at(-1)).toEqual({})
  })

  test('is not sent to the target of a redirect, nor to the collector of traces', async () => {
    const other = await startNode('access-other', [ANSWER])
    const node = await startNode('access-2', [
      { kind: 'answer', status: 307, headers: { location: `${other.url}/rpc/completions` }, body: '' },
    ])
    await sendHeartbeat(node, 'access-moved')
    const { response } = await complete('access-moved', {
      ...TOKEN,
      OTEL_EXPORTER_OTLP_ENDPOINT: other.url,
    })
    expect(response.status).toBe(502)
    const calls = await other.calls()
    expect(calls.map(({ path }) => path)).toEqual(['/v1/traces'])
    expect(JSON.stringify(calls)).not.toMatch(/cf-access|token-nobody-may-see/i)
  })

  test('is in no error and no log if the host drops the call, asks for a login, or returns no JSON', async () => {
    const steps: NodeStep[] = [
      { kind: 'drop' },
      { ...ANSWER, status: 403, body: '<html>Forbidden' },
      { ...ANSWER, body: 'not here' },
    ]
    const asked = steps.map(async (step, index) => {
      const node = await startNode(`access-broken-${index}`, [step])
      await sendHeartbeat(node, node.id)
      const { response, told } = await complete(node.id, TOKEN)
      expect(response.status).toBeGreaterThanOrEqual(500)
      expect(await accessOf(node)).toContainEqual(SENT)
      return told
    })
    expect((await Promise.all(asked)).join('\n')).not.toMatch(/cf-access|token-nobody-may-see/i)
  })

  test('is sent to the listed hosts only, whatever address a node reports', async () => {
    const node = await startNode('access-3', [ANSWER], { tls: true })
    await sendHeartbeat(node, 'access-hosts')
    const bindings = { ...TOKEN, NODE_CERTIFICATE: env.TEST_CERTIFICATE }
    const elsewhere = 'nodes.example.com, *.gpu.example.com'
    await complete('access-hosts', { ...bindings, COPAL_NODE_ACCESS_HOSTS: elsewhere })
    const here = `nodes.example.com,${new URL(node.url).hostname}`
    await complete('access-hosts', { ...bindings, COPAL_NODE_ACCESS_HOSTS: here })
    expect(await accessOf(node)).toEqual([{}, SENT])
  })

  test('is sent to listed hosts over TLS only, and to the subdomains of a wildcard', () => {
    const hosts = 'node-1.example.com, *.gpu.example.com'
    const access = readAccess({ ...TOKEN, COPAL_NODE_ACCESS_HOSTS: hosts })
    const sent = (url: string) => Object.keys(access(new URL(url))).length > 0
    expect(sent('https://node-1.example.com:8443/rpc/completions')).toBe(true)
    expect(sent('https://a.b.gpu.example.com')).toBe(true)
    const others = [
      'http://node-1.example.com',
      'https://gpu.example.com',
      'https://evilgpu.example.com',
      'https://node-1.example.com.evil.example',
    ]
    expect(others.filter(sent)).toEqual([])
  })

  test('that is not configured needs no valid host list', () => {
    expect(readAccess({ COPAL_NODE_ACCESS_HOSTS: 'https://no.host' })(new URL('https://a.example'))).toEqual(
      {},
    )
  })

  test.each([
    { half: { NODE_ACCESS_CLIENT_ID: 'id.access' }, says: 'NODE_ACCESS_CLIENT_SECRET is missing' },
    { half: { NODE_ACCESS_CLIENT_SECRET: 'token-nobody-may-see' }, says: 'NODE_ACCESS_CLIENT_ID is missing' },
    { half: { ...TOKEN, COPAL_NODE_ACCESS_HOSTS: 'https://x.example.com' }, says: "'https://x.example.com'" },
  ])(
    'of which half is there, or a host that is none, is told and not used: $says',
    async ({ half, says }) => {
      const { response, told } = await complete('access', half)
      expect(response.status).toBe(500)
      expect((await errorOf(response)).message).toMatch(/^The gateway is not configured: /)
      expect(told).toContain(says)
      expect(told).not.toContain('token-nobody-may-see')
    },
  )
})

describe('a client certificate', () => {
  test('gives access to a node behind a TLS proxy that rejects other clients', async () => {
    const node = await startNode('mtls-1', [ANSWER], { tls: true })
    await sendHeartbeat(node, 'mtls')
    expect((await complete('mtls', { NODE_CERTIFICATE: env.TEST_NO_CERTIFICATE })).response.status).toBe(503)
    expect(await node.calls()).toEqual([])
    await sendHeartbeat(node, 'mtls')
    const { response, told } = await complete('mtls', { ...TOKEN, NODE_CERTIFICATE: env.TEST_CERTIFICATE })
    expect([response.status, told]).toEqual([200, expect.stringContaining('"ok":1') as string])
    expect(await accessOf(node)).toEqual([SENT])
  })

  test('works for streams too', async () => {
    const chunks = ['data: {"a":1}\n\n', 'data: [DONE]\n\n']
    const node = await startNode('mtls-2', [{ kind: 'stream', chunks, pauseMs: 5, ending: 'end' }], {
      tls: true,
    })
    const deps = createDeps({ ...env, NODE_CERTIFICATE: env.TEST_CERTIFICATE }, createExecutionContext())
    const response = await deps.nodeFetch(new URL(node.url), {})
    expect(await response.text()).toBe(chunks.join(''))
  })
})

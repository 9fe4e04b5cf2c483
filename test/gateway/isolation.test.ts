import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type {
  CacheEntry,
  CreatedKey,
  CreateKey,
  KeyEntry,
  TenantEntry,
} from '@copal/shared/wire/admin-keys.ts'
import type { ModelList } from '@copal/shared/wire/model-list.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { createApp } from '../../gateway/src/app.ts'
import { admin, adminJson } from './support/doubles/simulated-node.ts'
import {
  sendHeartbeat,
  createKey,
  errorOf,
  get,
  post,
  receiptOf,
  signedPost,
  until,
} from './support/requests/gateway-requests.ts'
import { startNode, type NodeDouble } from './support/doubles/node-double.ts'

/** Routes that a tenant's administrator has; each is tested below by name. */
const OF_TENANTS = [
  'GET /admin/keys',
  'POST /admin/keys',
  'POST /admin/keys/:id/rotate',
  'PATCH /admin/keys/:id',
  'DELETE /admin/keys/:id',
  'GET /admin/tenants',
  'GET /admin/tenants/:tenant/cache',
  'DELETE /admin/tenants/:tenant/cache',
  'DELETE /admin/samples',
  'GET /admin/usage',
  'GET /admin/domains',
  'GET /admin/series',
]
/** All other routes under `/admin`, now and later. */
const OF_THE_OPERATOR = [
  ...new Set(
    createApp()
      .routes.filter(({ method, path }) => method !== 'ALL' && path.startsWith('/admin'))
      .map(({ method, path }) => `${method} ${path}`),
  ),
].filter((route) => !OF_TENANTS.includes(route))

const ALL_SCOPES: CreateKey['scopes'] = ['inference', 'read-metrics', 'admin']
let ours: CreatedKey
let theirs: CreatedKey
let node: NodeDouble

beforeAll(async () => {
  const make = async (tenant: string, model: string) => {
    await adminJson('PUT', `/tenants/${tenant}`)
    return adminJson<CreatedKey>('POST', '/keys', {
      name: `of ${tenant}`,
      tenant,
      scopes: ALL_SCOPES,
      default_domain: `${tenant}-domain`,
      allowed_models: [model],
    })
  }
  ours = await make('ours', 'model-of-ours')
  theirs = await make('theirs', 'model-of-theirs')
  node = await startNode('isolation-1', [{ kind: 'answer', body: '{"ok":1}' }])
  await heartbeats()
  const of = (key: CreatedKey, tokens: number) =>
    receiptOf(`${key.tenant}-request`, {
      account: key.id,
      model: `model-of-${key.tenant}`,
      domain: `${key.tenant}-domain`,
      promptTokens: tokens,
      drift: { tokens: 4, nllMasked: 10, nllDense: 8 },
    })
  const receipts = [of(ours, 11), of(theirs, 22)]
  await signedPost('/internal/nodes/receipts', { nodeId: 'isolation-1', receipts })
})

async function heartbeats(): Promise<void> {
  await sendHeartbeat({ ...node, id: 'isolation-1' }, 'model-of-ours')
  await sendHeartbeat({ ...node, id: 'isolation-2' }, 'model-of-theirs')
}
// A node that is not heard of for long takes nothing.
beforeEach(heartbeats)

const asOurs = (method: string, path: string, body?: unknown) => admin(method, path, body, ours.key)

describe('a key of one tenant', () => {
  test.each(OF_THE_OPERATOR)('is refused at %s, which is the whole service’s', async (route) => {
    const [method = '', path = ''] = route.split(' ')
    const response = await asOurs(method, path.replace('/admin', ''), method === 'GET' ? undefined : {})
    expect([response.status, (await errorOf(response)).code]).toEqual([403, 'insufficient_permissions'])
  })

  test('lists its own keys and never another’s, even by name', async () => {
    const { data } = await (await asOurs('GET', '/keys')).json<{ data: KeyEntry[] }>()
    expect(data.map(({ id }) => id)).toEqual([ours.id])
    for (const tenant of ['theirs', 'there-is-none']) {
      const response = await asOurs('GET', `/keys?tenant=${tenant}`)
      expect([response.status, (await errorOf(response)).param]).toEqual([403, 'tenant'])
    }
  })

  test('makes keys of its own tenant and of no other', async () => {
    const response = await asOurs('POST', '/keys', { name: 'theirs?', tenant: 'theirs' })
    expect([response.status, (await errorOf(response)).param]).toEqual([403, 'tenant'])
    const own = { name: 'own', allowed_models: ['model-of-ours'] }
    const made = await (await asOurs('POST', '/keys', own)).json<CreatedKey>()
    expect(made.tenant).toBe('ours')
    expect((await asOurs('DELETE', `/keys/${made.id}`)).status).toBe(200)
  })

  test('rotates, limits and revokes no key of another, and cannot tell it from one that is not there', async () => {
    const refusalOf = async (method: string, path: (id: string) => string, id: string) => {
      const response = await asOurs(method, path(id), method === 'DELETE' ? undefined : {})
      return [response.status, (await errorOf(response)).message.replace(id, '…')]
    }
    for (const [method, path] of [
      ['POST', (id: string) => `/keys/${id}/rotate`],
      ['PATCH', (id: string) => `/keys/${id}`],
      ['DELETE', (id: string) => `/keys/${id}`],
    ] as const) {
      const refused = await refusalOf(method, path, theirs.id)
      expect(refused[0]).toBe(404)
      expect(refused).toEqual(await refusalOf(method, path, 'key_that_is_not_there'))
    }
    expect((await get('/v1/models', theirs.key)).status).toBe(200)
  })

  test('sees its own tenant alone', async () => {
    const { data } = await (await asOurs('GET', '/tenants')).json<{ data: TenantEntry[] }>()
    expect(data.map(({ name }) => name)).toEqual(['ours'])
  })

  test('looks into its own response cache alone, and cannot tell another’s from one that is not there', async () => {
    const own = await (await asOurs('GET', '/tenants/ours/cache')).json<CacheEntry>()
    expect(own).toEqual({ tenant: 'ours', answers: 0, bytes: 0, hits: 0, misses: 0 })
    for (const method of ['GET', 'DELETE']) {
      const refusals = await Promise.all(
        ['theirs', 'there-is-none'].map(async (tenant) => {
          const response = await asOurs(method, `/tenants/${tenant}/cache`)
          return [response.status, (await errorOf(response)).message]
        }),
      )
      expect(refusals[0]?.[0]).toBe(403)
      expect(refusals[0]).toEqual(refusals[1])
    }
  })

  test('makes no key that may do more than itself', async () => {
    const { key } = await adminJson<CreatedKey>('POST', '/keys', {
      name: 'half an administrator',
      tenant: 'ours',
      scopes: ['admin', 'inference'],
      allowed_models: ['model-of-ours'],
      default_domain: 'code',
      allowed_domains: ['code', 'legal'],
      expires_at: '2099-01-01T00:00:00Z',
    })
    const bounded = {
      name: 'x',
      default_domain: 'code',
      allowed_domains: ['code'],
      allowed_models: ['model-of-ours'],
      expires_at: '2098-01-01T00:00:00Z',
    }
    for (const [changes, param] of [
      [{ scopes: ['read-metrics'] }, 'scopes'],
      [{ allowed_models: ['model-of-theirs'] }, 'allowed_models'],
      [{ allowed_models: null }, 'allowed_models'],
      [{ allowed_domains: ['code', 'other'] }, 'allowed_domains'],
      [{ expires_at: null }, 'expires_at'],
    ] as const) {
      const response = await admin('POST', '/keys', { ...bounded, ...changes }, key)
      expect([response.status, (await errorOf(response)).param]).toEqual([403, param])
    }
    // Rotating one would show it just as well.
    const rotation = await admin('POST', `/keys/${ours.id}/rotate`, {}, key)
    expect([rotation.status, (await errorOf(rotation)).param]).toEqual([403, 'scopes'])
    expect((await admin('POST', '/keys', bounded, key)).status).toBe(201)
  })

  test('reads the figures of its own traffic at /metrics and of nothing else', async () => {
    const text = await (await get('/metrics', ours.key)).text()
    const labels = 'tenant="ours",model="model-of-ours",domain="ours-domain",mask_version="0",outcome="stop"'
    expect(text.split('\n')).toContain(`copal_prompt_tokens_total{${labels}} 11`)
    expect(text).toContain('copal_drift_gap_nats{tenant="ours",model="model-of-ours"')
    expect(text).not.toContain('theirs')
    expect(text).not.toContain('isolation-1')
    const all = await (await get('/metrics')).text()
    expect(all).toContain('copal_prompt_tokens_total{model="model-of-theirs"')
    expect(all).not.toContain('tenant=')
    expect(all).toContain('copal_node_leases{node="isolation-1"')
  })

  test.each(['/v1/models', '/models'])('lists the models that it may use, at %s', async (path) => {
    const { data } = await (await get(path, ours.key)).json<ModelList>()
    expect(data.map(({ id }) => id)).toEqual(['model-of-ours', 'model-of-ours@dense'])
  })

  test.each(['/v1/models', '/models'])('cannot tell another’s model from none, at %s/:id', async (path) => {
    const refusalOf = async (id: string) => {
      const response = await get(`${path}/${id}`, ours.key)
      return [response.status, (await errorOf(response)).message.replace(id, '…')]
    }
    expect((await get(`${path}/model-of-ours`, ours.key)).status).toBe(200)
    expect(await refusalOf('model-of-theirs')).toEqual(await refusalOf('no-model-at-all'))
  })

  test.each([
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] }],
    ['/chat/completions', { messages: [{ role: 'user', content: 'x' }] }],
    ['/v1/completions', { prompt: 'x' }],
    ['/completions', { prompt: 'x' }],
    ['/v1/responses', { input: 'x' }],
    ['/responses', { input: 'x' }],
    ['/v1/embeddings', { input: 'x' }],
    ['/embeddings', { input: 'x' }],
  ])('uses its own model and is charged itself, at %s', async (path, body) => {
    const before = (await node.calls()).length
    expect((await post(ours.key, path, { model: 'model-of-ours', ...body })).status).toBe(200)
    for (const weights of ['', '@dense', '@mask-3']) {
      const named = await post(ours.key, path, { model: `model-of-theirs${weights}`, ...body })
      expect([named.status, (await errorOf(named)).param]).toEqual([403, 'model'])
    }
    const refused = await post(ours.key, path, { model: 'model-of-theirs', ...body })
    const unknown = await post(ours.key, path, { model: 'no-model-at-all', ...body })
    const messages = await Promise.all(
      [refused, unknown].map(async (response) => (await errorOf(response)).message),
    )
    expect([refused.status, unknown.status]).toEqual([403, 403])
    expect(messages[0]?.replace('model-of-theirs', '…')).toBe(messages[1]?.replace('no-model-at-all', '…'))
    const calls = (await node.calls()).slice(before)
    expect(calls.map((call) => (JSON.parse(call.body) as ChatCall).account)).toEqual([ours.id])
    // Nodes share what was computed of prompts within a tenant only.
    expect(calls.map((call) => (JSON.parse(call.body) as ChatCall).tenant)).toEqual(['ours'])
  })

  test.each([
    ['/v1/chat/completions', (text: string) => ({ messages: [{ role: 'user', content: text }] }), 2],
    ['/v1/completions', (text: string) => ({ prompt: text }), 2],
    ['/v1/responses', (text: string) => ({ input: text }), 2],
    ['/v1/embeddings', (text: string) => ({ input: text }), 0],
  ])('names how its prompts begin by keys that no other tenant has, at %s', async (path, bodyOf, count) => {
    const stranger = await createKey({ tenant: 'another-stranger' })
    const prefixesOf = async (key: string, text: string) => {
      const before = (await node.calls()).length
      expect((await post(key, path, { model: 'model-of-ours', ...bodyOf(text) })).status).toBe(200)
      const [call] = (await node.calls()).slice(before)
      return (JSON.parse(call?.body ?? '') as ChatCall).prefix ?? []
    }
    const text = 'a prompt that both of them send, '.repeat(40)
    const own = await prefixesOf(ours.key, text)
    expect(own).toHaveLength(count)
    expect(await prefixesOf(ours.key, text)).toEqual(own)
    const others = await prefixesOf(stranger.key, text)
    expect(new Set([...own, ...others]).size).toBe(2 * count)
    expect(await prefixesOf(ours.key, 'short')).toEqual([])
  })

  test.each([
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'secret' }] }],
    ['/chat/completions', { messages: [{ role: 'user', content: 'secret too' }] }],
    ['/v1/completions', { prompt: 'secret' }],
    ['/completions', { prompt: 'secret too' }],
    ['/v1/responses', { input: 'secret' }],
    ['/responses', { input: 'secret too' }],
    ['/v1/embeddings', { input: 'secret' }],
    ['/embeddings', { input: 'secret too' }],
  ])('finds no answer that is kept of another tenant’s same request, at %s', async (path, fields) => {
    const body = { model: 'model-of-ours', ...(path.includes('embed') ? {} : { temperature: 0 }), ...fields }
    const stranger = await createKey({ tenant: 'stranger' })
    const ask = async (key: string) =>
      (await post(key, path, body, { headers: { 'x-copal-cache': 'true' } })).headers.get('x-copal-cache')
    expect(await ask(stranger.key)).toBe('miss')
    await until('the answer to be kept', async () => ((await ask(stranger.key)) === 'hit' ? true : undefined))
    expect(await ask(ours.key)).toBe('miss')
  })
})

test('every route that takes a key is held against another tenant here', () => {
  const tested = [
    ...OF_TENANTS,
    ...OF_THE_OPERATOR,
    'GET /metrics',
    ...['/v1', ''].flatMap((base) => [
      `GET ${base}/models`,
      `GET ${base}/models/:id`,
      `POST ${base}/chat/completions`,
      `POST ${base}/completions`,
      `POST ${base}/responses`,
      `POST ${base}/embeddings`,
    ]),
  ]
  // Open to everybody, the caller's own session, and nodes' own, which are signed.
  const keyless = /^(GET \/(health|docs|openapi\.json)?|[A-Z]+ \/dashboard\/.*|[A-Z]+ \/internal\/.*)$/
  const routes = createApp()
    .routes.filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => `${method} ${path}`)
    .filter((route) => !keyless.test(route))
  expect([...new Set(routes)].sort()).toEqual(tested.sort())
})

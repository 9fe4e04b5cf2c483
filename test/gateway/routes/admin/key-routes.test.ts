import { env } from 'cloudflare:workers'
import { createExecutionContext, createScheduledController, waitOnExecutionContext } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { CreatedKey, CreateKey, KeyEntry, TenantEntry } from '@copal/shared/wire/admin-keys.ts'
import worker from '../../../../gateway/src/index.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findKey } from '../../../../gateway/src/storage/db/queries/key-queries.ts'
import { SETTINGS } from '../../../../shared/src/settings-table.ts'
import { digestOf, generateKey, pepperedHash } from '../../../../gateway/src/keys/key-secret.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { moveClock, stopClock } from '../../support/doubles/stopped-clock.ts'
import { createKey, errorOf, get, post } from '../../support/requests/gateway-requests.ts'
import { TEST_KEY_PEPPER } from '../../support/setup/secrets.ts'

const db = openDatabase(env.DB)
const create = (fields: CreateKey) => adminJson<CreatedKey>('POST', '/keys', fields)
const listed = async (id: string) =>
  (await adminJson<{ data: KeyEntry[] }>('GET', '/keys')).data.find((key) => key.id === id)
const statusOf = async (key: string) => (await get('/v1/models', key)).status

describe('a key', () => {
  test('is shown once, works at once, is listed without its secret, and is invalid after its revocation', async () => {
    const response = await admin('POST', '/keys', {
      name: 'ci',
      default_domain: 'legal',
      allowed_domains: ['legal', 'code', 'legal'],
      sampling: 'never',
    })
    expect(response.headers.get('cache-control')).toBe('no-store')
    const created = await response.json<CreatedKey>()
    const { key, ...entry } = created
    expect(entry).toEqual({
      id: expect.stringMatching(/^key_[0-9a-f]{32}$/) as string,
      name: 'ci',
      tenant: 'default',
      prefix: key.slice(0, 15),
      scopes: ['inference'],
      default_domain: 'legal',
      discover_domains: false,
      allowed_domains: ['code', 'legal'],
      allowed_models: null,
      sampling: 'never',
      limits: {
        requests_per_minute: null,
        tokens_per_minute: null,
        tokens_per_month: null,
        concurrent_requests: null,
      },
      created_at: expect.any(String) as string,
      expires_at: null,
      previous_valid_until: null,
    })
    expect((await post(key, '/v1/chat/completions', {})).status).toBe(400)
    expect(await listed(created.id)).toEqual(entry)
    expect(await (await admin('GET', '/keys')).text()).not.toContain(key)
    expect(await adminJson('DELETE', `/keys/${created.id}`)).toEqual({ id: created.id, revoked: true })
    expect(await listed(created.id)).toBeUndefined()
    expect((await admin('DELETE', `/keys/${created.id}`)).status).toBe(404)
    moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
    expect(await statusOf(key)).toBe(401)
  })

  test('defaults to inference, to opt-in sampling, and to all models and domains', async () => {
    expect(await create({ name: 'plain' })).toMatchObject({
      default_domain: 'default',
      discover_domains: true,
      sampling: 'opt_in',
      scopes: ['inference'],
      allowed_models: null,
      allowed_domains: null,
    })
    expect(await create({ name: 'both', default_domain: 'legal', discover_domains: true })).toMatchObject({
      default_domain: 'legal',
      discover_domains: true,
    })
  })

  test('is rejected from its expiry on, although it is cached', async () => {
    const goOn = stopClock()
    const expiresAt = new Date(Date.now() + 5_000).toISOString()
    const { key } = await create({ name: 'guest', expires_at: expiresAt })
    expect(await statusOf(key)).toBe(200)
    goOn(5_000)
    const response = await get('/v1/models', key)
    expect(response.status).toBe(401)
    expect((await errorOf(response)).message).toContain(`expired at ${expiresAt}`)
  })

  test('is neither stored nor logged in a usable form', async () => {
    const logs = (['log', 'info', 'warn', 'error', 'debug'] as const).map((level) =>
      vi.spyOn(console, level).mockImplementation(() => undefined),
    )
    onTestFinished(() => logs.forEach((log) => log.mockRestore()))
    const { id, key } = await create({ name: 'secret' })
    const rotated = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`)
    await get('/v1/models', rotated.key)
    await get('/v1/nothing', key)
    const { results } = await env.DB.prepare('select * from api_keys').all()
    const kept = JSON.stringify([results, logs.map((log) => log.mock.calls)])
    for (const secret of [key, rotated.key]) {
      expect(kept).not.toContain(secret.slice(16))
      expect(kept).not.toContain(await digestOf(secret))
    }
    expect(kept).toContain(await pepperedHash(TEST_KEY_PEPPER, await digestOf(rotated.key)))
  })
})

describe('a rotated key', () => {
  test('is replaced at once, and the old secret stays valid only for the grace period', async () => {
    const goOn = stopClock()
    const { id, key: old } = await create({ name: 'rotated', default_domain: 'legal' })
    const { key, ...entry } = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`, {
      grace_seconds: 600,
    })
    expect(entry).toMatchObject({ id, name: 'rotated', default_domain: 'legal', prefix: key.slice(0, 15) })
    expect(Date.parse(entry.previous_valid_until ?? '') - Date.now()).toBe(600_000)
    expect([await statusOf(old), await statusOf(key)]).toEqual([200, 200])
    goOn(600_001)
    const refused = await get('/v1/models', old)
    expect(refused.status).toBe(401)
    expect((await errorOf(refused)).message).toMatch(
      /was replaced and became invalid at .* Use the new one\./,
    )
    expect(await statusOf(key)).toBe(200)
    expect((await listed(id))?.previous_valid_until).toBeNull()
  })

  test('without a grace period becomes invalid as soon as no isolate has it cached', async () => {
    const { id, key: old } = await create({ name: 'leaked' })
    expect(await statusOf(old)).toBe(200)
    const { key, previous_valid_until } = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`, {
      grace_seconds: 0,
    })
    expect(previous_valid_until).toBeNull()
    moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
    expect([await statusOf(old), await statusOf(key)]).toEqual([401, 200])
  })

  test('that is rotated twice leaves two secrets valid, not three', async () => {
    const first = await create({ name: 'twice' })
    const second = await adminJson<CreatedKey>('POST', `/keys/${first.id}/rotate`)
    const third = await adminJson<CreatedKey>('POST', `/keys/${first.id}/rotate`)
    const statuses = await Promise.all([first.key, second.key, third.key].map(statusOf))
    expect(statuses).toEqual([401, 200, 200])
  })

  test('is invalid with all its secrets when it is revoked', async () => {
    const { id, key: old } = await create({ name: 'revoked' })
    const { key } = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`)
    await adminJson('DELETE', `/keys/${id}`)
    expect([await statusOf(old), await statusOf(key)]).toEqual([401, 401])
    expect((await admin('POST', `/keys/${id}/rotate`)).status).toBe(404)
  })

  test('cannot be rotated after its expiry', async () => {
    const goOn = stopClock()
    const { id } = await create({ name: 'over', expires_at: new Date(Date.now() + 1_000).toISOString() })
    goOn(1_000)
    const response = await admin('POST', `/keys/${id}/rotate`)
    expect(response.status).toBe(409)
    expect((await errorOf(response)).message).toContain("Create a new one with 'POST /admin/keys'")
  })
})

describe('a key that was stored before peppers existed', () => {
  const store = async (changes: { hash?: string } = {}) => {
    const { key } = generateKey()
    const { id } = await createKey({ hash: await digestOf(key), peppered: false, ...changes })
    return { id, key }
  }
  const tick = async () => {
    const ctx = createExecutionContext()
    await worker.scheduled(createScheduledController(), env, ctx)
    await waitOnExecutionContext(ctx)
  }

  test('works, before and after its plain digest is replaced by a peppered one', async () => {
    const { id, key } = await store()
    expect(await statusOf(key)).toBe(200)
    await tick()
    const stored = await findKey(db, id)
    expect(stored).toMatchObject({
      peppered: true,
      hash: await pepperedHash(TEST_KEY_PEPPER, await digestOf(key)),
    })
    moveClock(SETTINGS.COPAL_KEY_TRUST_MS.default)
    expect(await statusOf(key)).toBe(200)
    await tick()
    expect(await findKey(db, id)).toEqual(stored)
  })

  test('can be rotated before that, which removes its plain digest', async () => {
    const { id, key: old } = await store()
    const { key } = await adminJson<CreatedKey>('POST', `/keys/${id}/rotate`)
    expect([await statusOf(old), await statusOf(key)]).toEqual([200, 200])
    expect(JSON.stringify(await findKey(db, id))).not.toContain(await digestOf(old))
  })

  test('does not accept the stored hash of a peppered key', async () => {
    const { key } = generateKey()
    await createKey({ hash: await digestOf(key), peppered: true })
    expect(await statusOf(key)).toBe(401)
  })
})

describe('a key with restrictions', () => {
  test('may use only its models, and is shown no others', async () => {
    const { key } = await create({ name: 'narrow', allowed_models: ['their-model'] })
    const response = await post(key, '/v1/completions', { model: 'tiny', prompt: 'x' })
    expect(response.status).toBe(403)
    expect(await errorOf(response)).toMatchObject({
      code: 'insufficient_permissions',
      type: 'permission_error',
      param: 'model',
      message: "This key may not use the model 'tiny'. Allowed: 'their-model'.",
    })
    const missing = await post(key, '/v1/completions', { model: 'their-model', prompt: 'x' })
    expect((await errorOf(missing)).message).toBe(
      "The model 'their-model' does not exist. No model is available.",
    )
  })

  test('may use only its domains', async () => {
    const { key } = await create({ name: 'domains', default_domain: 'legal', allowed_domains: ['legal'] })
    const ask = (domain: string) =>
      post(key, '/v1/completions', { model: 'no', prompt: 'x' }, { headers: { 'x-copal-domain': domain } })
    expect((await ask('legal')).status).toBe(404)
    const response = await ask('code')
    expect(response.status).toBe(403)
    expect(await errorOf(response)).toMatchObject({ param: 'x-copal-domain' })
  })

  test('may use only its scopes', async () => {
    const opens = async (scopes: CreateKey['scopes']) => {
      const { key } = await create({ name: 'scoped', scopes })
      const paths = ['/v1/models', '/metrics', '/admin/keys']
      return Promise.all(paths.map(async (path) => (await get(path, key)).status))
    }
    expect(await opens(['inference'])).toEqual([200, 403, 403])
    expect(await opens(['read-metrics'])).toEqual([403, 200, 200])
    expect(await opens(['admin'])).toEqual([403, 403, 200])
    expect(await opens(['read-admin'])).toEqual([403, 200, 200])
    expect(await opens(['admin', 'inference', 'read-metrics'])).toEqual([200, 200, 200])
    const { key } = await create({ name: 'scoped', scopes: ['read-metrics'] })
    expect((await errorOf(await get('/v1/models', key))).message).toBe(
      "An API key with the scope 'inference' is needed here. This key has the scope 'read-metrics'.",
    )
  })
})

describe('tenants', () => {
  test('are created once and counted, and a key for an unknown tenant is rejected with instructions', async () => {
    expect(await adminJson('PUT', '/tenants/acme')).toMatchObject({ name: 'acme', keys: 0 })
    const { id } = await create({ name: 'one', tenant: 'acme' })
    await create({ name: 'two', tenant: 'acme' })
    await adminJson('DELETE', `/keys/${id}`)
    expect(await adminJson('PUT', '/tenants/acme')).toMatchObject({ name: 'acme', keys: 1 })
    const { data } = await adminJson<{ data: TenantEntry[] }>('GET', '/tenants')
    expect(data.map(({ name }) => name)).toEqual(['acme', 'default'])
    const { data: keys } = await adminJson<{ data: KeyEntry[] }>('GET', '/keys?tenant=acme')
    expect(keys.map(({ name }) => name)).toEqual(['two'])
    const response = await admin('POST', '/keys', { name: 'x', tenant: 'acne' })
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({
      param: 'tenant',
      message: "There is no tenant 'acne'. Did you mean 'acme'? 'PUT /admin/tenants/acne' creates it.",
    })
    expect((await admin('PUT', '/tenants/Not%20ok')).status).toBe(400)
  })
})

describe('wrong input', () => {
  test.each<[string, unknown, string | null]>([
    [
      'a misspelt field, which would leave the key open',
      { name: 'x', expire_at: '2099-01-01T00:00:00Z' },
      null,
    ],
    ['an unknown scope', { name: 'x', scopes: ['root'] }, 'scopes[0]'],
    ['no scope', { name: 'x', scopes: [] }, 'scopes'],
    ['a time that is over', { name: 'x', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
    ['what is no time', { name: 'x', expires_at: 'tomorrow' }, 'expires_at'],
    ['a default domain outside of the allowed', { name: 'x', allowed_domains: ['legal'] }, 'default_domain'],
    ['an empty list of models', { name: 'x', allowed_models: [] }, 'allowed_models'],
  ])('%s is rejected by name', async (_what, body, param) => {
    const response = await admin('POST', '/keys', body)
    expect(response.status).toBe(400)
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_request', param })
  })

  test('a grace period of a year is rejected', async () => {
    const { id } = await create({ name: 'graceful' })
    const response = await admin('POST', `/keys/${id}/rotate`, { grace_seconds: 365 * 24 * 3600 })
    expect([response.status, (await errorOf(response)).param]).toEqual([400, 'grace_seconds'])
  })
})

describe('consent', () => {
  const consentOf = async (id: string) => (await findKey(db, id))?.consentVersion

  test('no administrator creates or makes a key whose sampling is above its own', async () => {
    const own = await create({ name: 'strict', scopes: ['admin', 'inference'], sampling: 'never' })
    const sampled = async (method: string, path: string, body: unknown) => {
      const response = await admin(method, path, body, own.key)
      return response.ok ? null : (await errorOf(response)).param
    }
    const looser = await create({ name: 'looser', sampling: 'opt_in' })
    for (const sampling of ['opt_in', 'always'] as const)
      expect(await sampled('POST', '/keys', { name: 'new', sampling })).toBe('sampling')
    expect(await sampled('POST', '/keys', { name: 'new', sampling: 'never' })).toBeNull()
    expect(await sampled('PATCH', `/keys/${looser.id}`, { sampling: 'never' })).toBe('sampling')
    expect(await sampled('PATCH', `/keys/${own.id}`, { sampling: 'always' })).toBe('sampling')
  })

  test('of changes at the same time none undoes another', async () => {
    const changes = [
      { sampling: 'never' },
      { limits: { requests_per_minute: 1 } },
      { limits: { tokens_per_minute: 2 } },
      { limits: { tokens_per_month: 3 } },
      { limits: { concurrent_requests: null } },
    ]
    const limits = { requests_per_minute: 10, concurrent_requests: 10 }
    await adminJson('PUT', '/tenants/changing', { limits })
    const { id } = await create({ name: 'changing', sampling: 'always', limits })
    await Promise.all([
      ...changes.map((change) => adminJson('PATCH', `/keys/${id}`, change)),
      ...changes.map((change) => adminJson('PUT', '/tenants/changing', change)),
    ])
    const after = {
      sampling: 'never',
      limits: {
        requests_per_minute: 1,
        tokens_per_minute: 2,
        tokens_per_month: 3,
        concurrent_requests: null,
      },
    }
    expect(await listed(id)).toMatchObject(after)
    expect(await adminJson('PUT', '/tenants/changing', {})).toMatchObject(after)
  })

  test('a changed policy of a key or of its tenant is a new consent version', async () => {
    await adminJson('PUT', '/tenants/consenting')
    const { id } = await create({ name: 'changing', tenant: 'consenting', sampling: 'always' })
    expect(await adminJson('PATCH', `/keys/${id}`, { sampling: 'opt_in' })).toMatchObject({
      sampling: 'opt_in',
    })
    expect(await consentOf(id)).toBe(2)
    await adminJson('PATCH', `/keys/${id}`, { sampling: 'opt_in', limits: { concurrent_requests: 3 } })
    expect(await consentOf(id)).toBe(2)
    expect(await adminJson('PUT', '/tenants/consenting', { sampling: 'never' })).toMatchObject({
      sampling: 'never',
    })
    expect(await consentOf(id)).toBe(3)
    expect(await adminJson('PUT', '/tenants/consenting', {})).toMatchObject({ sampling: 'never' })
    expect(await consentOf(id)).toBe(3)
  })
})

import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { CreatedKey, CreateKey, KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { errorOf, get } from '../../support/requests/gateway-requests.ts'

const create = (fields: CreateKey) => adminJson<CreatedKey>('POST', '/keys', fields)
const listed = async (id: string) =>
  (await adminJson<{ data: KeyEntry[] }>('GET', '/keys')).data.find((key) => key.id === id)
const statusOf = async (key: string) => (await get('/v1/models', key)).status

describe('an administrator with limits', () => {
  const limits = { requests_per_minute: 60, tokens_per_month: 1000 }
  const setUp = async () => {
    const own = await create({ name: 'limited', scopes: ['admin', 'inference'], limits })
    const as = (method: string, path: string, body?: unknown) => admin(method, path, body, own.key)
    /** The limit that is rejected; null if none is. */
    const refused = async (method: string, path: string, body?: unknown) => {
      const response = await as(method, path, body)
      if (response.ok) return null
      const error = await errorOf(response)
      expect(error).toMatchObject({ code: 'insufficient_permissions', type: 'permission_error' })
      return error.param
    }
    return { own, as, refused }
  }

  test('cannot create a key with looser limits than its own, and the error names the limit', async () => {
    const { own, as, refused } = await setUp()
    const make = (given: CreateKey['limits']) => refused('POST', '/keys', { name: 'new', limits: given })
    expect(await make({})).toBe('limits.requests_per_minute')
    expect(await make({ ...limits, requests_per_minute: 61 })).toBe('limits.requests_per_minute')
    expect(await make({ ...limits, tokens_per_month: null })).toBe('limits.tokens_per_month')
    expect(await make(limits)).toBeNull()
    expect(await make({ requests_per_minute: 1, tokens_per_month: 1, concurrent_requests: 1 })).toBeNull()
    const response = await as('POST', '/keys', { name: 'new' })
    expect(response.status).toBe(403)
    expect((await errorOf(response)).message).toBe(
      "This key is limited itself: 'limits.requests_per_minute' of a key that it creates or changes must be set, to at most 60.",
    )
    expect((await listed(own.id))?.limits).toMatchObject(limits)
  })

  test('cannot loosen its own limits, but may tighten them', async () => {
    const { own, refused } = await setUp()
    const change = (changes: CreateKey['limits']) => refused('PATCH', `/keys/${own.id}`, { limits: changes })
    expect(await change({ requests_per_minute: 1_000_000 })).toBe('limits.requests_per_minute')
    expect(await change({ tokens_per_month: null })).toBe('limits.tokens_per_month')
    expect((await listed(own.id))?.limits).toMatchObject(limits)
    expect(await change({ tokens_per_month: 10, concurrent_requests: 2 })).toBeNull()
    expect((await listed(own.id))?.limits).toMatchObject({ requests_per_minute: 60, tokens_per_month: 10 })
    // The operator has just tightened a limit, and the isolate has the old one cached.
    await adminJson('PATCH', `/keys/${own.id}`, { limits: { requests_per_minute: 5 } })
    expect(await change({ requests_per_minute: 60 })).toBe('limits.requests_per_minute')
  })

  test('cannot loosen a key beyond its own limits, nor obtain a looser key by rotation', async () => {
    const { refused } = await setUp()
    const { id } = await create({ name: 'looser', limits: { requests_per_minute: 100 } })
    const change = (changes: CreateKey['limits']) => refused('PATCH', `/keys/${id}`, { limits: changes })
    expect(await refused('POST', `/keys/${id}/rotate`)).toBe('limits.requests_per_minute')
    expect(await change({ requests_per_minute: 101 })).toBe('limits.requests_per_minute')
    expect(await change({ concurrent_requests: 1 })).toBe('limits.requests_per_minute')
    expect(await change({ requests_per_minute: 60, tokens_per_month: 1000 })).toBe(
      'limits.requests_per_minute',
    )
    await adminJson('PATCH', `/keys/${id}`, { limits: { requests_per_minute: 60, tokens_per_month: 1000 } })
    expect(await change({ concurrent_requests: 1 })).toBeNull()
    expect(await refused('POST', `/keys/${id}/rotate`)).toBeNull()
  })

  test('neither revokes, limits, rotates nor sees a key above its own, and the error names the field', async () => {
    const { own, as, refused } = await setUp()
    const stronger = await create({ name: 'stronger', scopes: ['inference'] })
    expect(await refused('DELETE', `/keys/${stronger.id}`)).toBe('limits.requests_per_minute')
    expect(await refused('PATCH', `/keys/${stronger.id}`, { limits: { concurrent_requests: 1 } })).toBe(
      'limits.requests_per_minute',
    )
    expect(await refused('POST', `/keys/${stronger.id}/rotate`)).toBe('limits.requests_per_minute')
    expect(await statusOf(stronger.key)).toBe(200)
    const equal = await create({ name: 'equal', limits })
    const { data } = await (await as('GET', '/keys')).json<{ data: KeyEntry[] }>()
    expect(data.map(({ id }) => id)).toEqual(expect.arrayContaining([own.id, equal.id]))
    expect(data.map(({ id }) => id)).not.toContain(stronger.id)
    expect(await refused('DELETE', `/keys/${equal.id}`)).toBeNull()
    expect(await refused('DELETE', `/keys/${own.id}`)).toBeNull()
  })

  test('cannot create more than 1,000 keys for its tenant, while the operator can', async () => {
    const { as } = await setUp()
    await env.DB.prepare(
      `insert into api_keys (id, name, hash, prefix, default_domain, sampling, created_at)
       with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
       select 'bulk_' || i, 'bulk', 'bulk_' || i, '', 'default', 'never', 0 from n`,
    ).run()
    const response = await as('POST', '/keys', { name: 'one more', limits })
    expect(response.status).toBe(409)
    expect((await errorOf(response)).message).toContain('Revoke keys that are not needed')
    expect((await create({ name: 'of the operator' })).tenant).toBe('default')
    await env.DB.prepare("delete from api_keys where id like 'bulk_%'").run()
  })
})

test('a key of a tenant reads which keys may do what it may not', async () => {
  await adminJson('PUT', '/tenants/acme', { limits: {} })
  const messageFor = async (scope: 'admin' | 'read-metrics', method: string, path: string) => {
    const { key } = await create({ name: scope, scopes: [scope], tenant: 'acme' })
    return (await errorOf(await admin(method, path, undefined, key))).message
  }
  const reading =
    "'/admin/policy' concerns all tenants and needs the admin key or a key with the scope 'read-admin'. This key is for the tenant 'acme' alone."
  expect(await messageFor('read-metrics', 'GET', '/policy')).toBe(reading)
  expect(await messageFor('admin', 'GET', '/policy')).toBe(reading)
  expect(await messageFor('admin', 'PUT', '/policy')).toBe(
    "'/admin/policy' concerns all tenants and needs the admin key. This key is for the tenant 'acme' alone.",
  )
})

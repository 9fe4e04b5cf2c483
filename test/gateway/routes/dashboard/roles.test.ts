import { beforeAll, describe, expect, test } from 'vitest'
import type { AuditPage } from '@copal/shared/wire/admin-audit.ts'
import type { DomainEntry, DomainPage } from '@copal/shared/wire/admin-domains.ts'
import type { CreatedKey, CreateKey, KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import type { UsageReport } from '@copal/shared/wire/admin-usage.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { signIn } from '../../support/requests/dashboard-session.ts'
import {
  errorOf,
  get,
  receiptOf,
  sendHeartbeat,
  signedPost,
} from '../../support/requests/gateway-requests.ts'

const create = (fields: Partial<CreateKey>) =>
  adminJson<CreatedKey>('POST', '/keys', { name: 'of a test', tenant: 'acme', ...fields })

/** Every route under `/admin` of a method, with placeholders for its parameters. */
const routes = (accept: (method: string) => boolean) => [
  ...new Set(
    createApp()
      .routes.filter(({ method, path }) => accept(method) && path.startsWith('/admin/'))
      .map(({ method, path }) => `${method} ${path.replace('/admin', '').replaceAll(/:\w+/g, 'x')}`),
  ),
]

beforeAll(async () => {
  for (const tenant of ['acme', 'other']) await adminJson('PUT', `/tenants/${tenant}`)
  await sendHeartbeat({ id: 'roles-1', url: 'http://127.0.0.1:1' }, 'tiny')
})

describe('an observer', () => {
  test('reads every list and report', async () => {
    const { key } = await create({ scopes: ['read-admin'] })
    for (const route of routes((method) => method === 'GET')) {
      const path = route.replace('GET ', '')
      const response = await admin('GET', path, undefined, key)
      const { status } = response
      await response.body?.cancel()
      // What its placeholder names is not there.
      const expected = path.includes('/x') ? [200, 400, 404] : [200]
      expect([route, expected]).toEqual([route, expect.arrayContaining([status])])
    }
    expect((await get('/metrics', key)).status).toBe(200)
    const keys = await (await admin('GET', '/keys', undefined, key)).json<{ data: KeyEntry[] }>()
    const all = await adminJson<{ data: KeyEntry[] }>('GET', '/keys')
    expect(keys).toEqual(all)
  })

  test('changes nothing, and its attempts are in the audit log', async () => {
    const { id, key } = await create({ scopes: ['read-admin', 'inference'] })
    const browser = await signIn({ key })
    expect(browser.entry).toMatchObject({ role: 'observer', tenant: null, may_change: false })
    const changes = routes((method) => !['GET', 'ALL'].includes(method))
    const answers = await Promise.all(
      changes.map(async (route) => {
        const [method = '', path = ''] = route.split(' ')
        const response = await admin(method, path, {}, key)
        return { route, status: response.status, message: (await errorOf(response)).message }
      }),
    )
    const refused = { status: 403, message: expect.stringContaining('This key only reads.') as string }
    expect(answers).toEqual(changes.map((route) => ({ route, ...refused })))
    const bySession = await browser.send('POST', '/admin/rollback', { body: {} })
    expect(bySession.status).toBe(403)
    // The outcome is recorded after the response.
    const recorded = async () => (await adminJson<AuditPage>('GET', `/audit?limit=500&actor=${id}`)).data
    await expect.poll(recorded).toContainEqual(
      expect.objectContaining({
        action: 'POST /admin/rollback',
        after: expect.objectContaining({ error: 'insufficient_permissions' }) as object,
      }),
    )
  })

  test('is made by the admin key alone, and administers no tenant', async () => {
    const { key } = await create({ scopes: ['admin', 'inference'] })
    const made = await admin('POST', '/keys', { name: 'x', scopes: ['read-admin'] }, key)
    expect([made.status, (await errorOf(made)).param]).toEqual([403, 'scopes'])
    const both = await admin('POST', '/keys', { name: 'x', scopes: ['admin', 'read-admin'] })
    expect([both.status, (await errorOf(both)).param]).toEqual([400, 'scopes'])
  })
})

describe('a key of a tenant', () => {
  test('sees the usage of its tenant alone', async () => {
    // All receipts belong to one day, even at midnight.
    stopClock()
    const [ours, theirs] = [await create({}), await create({ tenant: 'other' })]
    const receipts = [ours, theirs].map(({ id }) => receiptOf(`roles-of-${id}`, { account: id }))
    await signedPost('/internal/nodes/receipts', { nodeId: 'roles-1', receipts })
    for (const scope of ['admin', 'read-metrics'] as const) {
      const browser = await signIn({ key: (await create({ scopes: [scope] })).key })
      expect(browser.entry).toMatchObject({ role: 'tenant', tenant: 'acme', may_change: scope === 'admin' })
      const report = await (await browser.send('GET', '/admin/usage?days=3')).json<UsageReport>()
      expect(report.data).toEqual([
        expect.objectContaining({
          key: ours.id,
          tenant: 'acme',
          tokens: [0, 0, 15],
          total: 15,
          revoked: false,
        }),
      ])
      const refused = await browser.send('GET', '/admin/usage?tenant=other')
      expect([refused.status, (await errorOf(refused)).param]).toEqual([403, 'tenant'])
    }
    const all = await adminJson<UsageReport>('GET', '/usage')
    expect(all.data.map(({ key }) => key).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(
      [ours.id, theirs.id].toSorted((a, b) => (a < b ? -1 : 1)),
    )
    expect(all).toMatchObject({ days: 30, from: expect.stringMatching(/^\d{4}-\d\d-\d\d$/) as string })
  })

  test('sees the domains that its tenant owns, and nothing of the whole service', async () => {
    for (const [domain, owner] of [
      ['ours', 'acme'],
      ['theirs', 'other'],
      ['shared', null],
    ] as const) {
      await adminJson('POST', `/domains/${domain}/texts`, { texts: ['the text of an operator'] })
      await adminJson('PUT', `/domains/${domain}`, { owner })
    }
    const { key } = await create({ scopes: ['read-metrics'] })
    const { data } = await (await admin('GET', '/domains', undefined, key)).json<{ data: DomainEntry[] }>()
    expect(data.map(({ name }) => name)).toEqual(['ours'])
    // Neither a page nor where it ends tells of domains of others.
    for (const query of ['?limit=1', '?limit=1&after=a', '?limit=1000&after=ours', '?after=shared']) {
      const page = await (await admin('GET', `/domains${query}`, undefined, key)).json<DomainPage>()
      const names = query.includes('=ours') || query.includes('=shared') ? [] : ['ours']
      expect([page.data.map(({ name }) => name), page.next_after]).toEqual([names, null])
    }
    const series = (domain: string) => admin('GET', `/series?model=tiny${domain}`, undefined, key)
    expect((await series('&domain=ours')).status).toBe(200)
    for (const domain of ['', '&domain=theirs', '&domain=shared', '&domain=of-nobody']) {
      const refused = await series(domain)
      expect([refused.status, (await errorOf(refused)).param]).toEqual([403, 'domain'])
    }
    for (const path of ['/overview', '/events', '/masks', '/masks/1/linears', '/updates', '/audit', '/nodes'])
      expect((await admin('GET', path, undefined, key)).status).toBe(403)
  })

  test('that only reads makes and revokes no keys', async () => {
    const { key } = await create({ scopes: ['read-metrics'] })
    expect((await admin('GET', '/keys', undefined, key)).status).toBe(200)
    expect((await admin('POST', '/keys', { name: 'x' }, key)).status).toBe(403)
    expect((await admin('DELETE', '/tenants/acme/cache', undefined, key)).status).toBe(403)
  })
})

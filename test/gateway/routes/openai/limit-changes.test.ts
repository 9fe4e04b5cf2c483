import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { CreatedKey } from '@copal/shared/wire/admin-keys.ts'
import { SETTINGS } from '../../../../shared/src/settings-table.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import { sendHeartbeat, errorOf } from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey, sortedStatuses } from '../../support/requests/limited-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'

let node: NodeDouble
beforeEach(async () => {
  node = await startNode('limit-changes-1', [{ kind: 'answer', body: '{"ok":1}' }])
  await sendHeartbeat(node, 'tiny')
})

describe('limits', () => {
  test('are changed one by one, removed by null, and reach isolates that have cached the key', async () => {
    const { id, key, limits } = await createLimitedKey({ requests_per_minute: 1, tokens_per_minute: 500 })
    expect(limits).toEqual({
      requests_per_minute: 1,
      tokens_per_minute: 500,
      tokens_per_month: null,
      concurrent_requests: null,
    })
    expect(await sortedStatuses([ask(key), ask(key)])).toEqual([200, 429])
    const changed = await adminJson<CreatedKey>('PATCH', `/keys/${id}`, {
      limits: { requests_per_minute: null, concurrent_requests: 7 },
    })
    expect(changed.limits).toEqual({
      requests_per_minute: null,
      tokens_per_minute: 500,
      tokens_per_month: null,
      concurrent_requests: 7,
    })
    const now = Date.now
    Date.now = () => now() + SETTINGS.COPAL_KEY_TRUST_MS.default
    onTestFinished(() => {
      Date.now = now
    })
    await sendHeartbeat(node, 'tiny')
    expect((await ask(key)).headers.get('x-ratelimit-limit-requests')).toBeNull()
  })

  test('of a tenant stay when the tenant is put again without limits', async () => {
    await adminJson('PUT', '/tenants/steady', { limits: { tokens_per_month: 5 } })
    expect(await adminJson('PUT', '/tenants/steady')).toMatchObject({ limits: { tokens_per_month: 5 } })
  })

  test.each([
    [{ limits: { requests_per_minute: 0 } }, 'limits.requests_per_minute'],
    [{ limits: { tokens_per_minute: 1.5 } }, 'limits.tokens_per_minute'],
    [{ limits: { requests_per_hour: 5 } }, 'limits'],
  ])('with invalid values are rejected by name: %j', async (body, param) => {
    const response = await admin('PUT', '/tenants/senseless', body)
    expect([response.status, (await errorOf(response)).param]).toEqual([400, param])
  })

  test('can be set by an administrator for keys of its own tenant, not for the tenant or for other tenants', async () => {
    for (const name of ['mine', 'yours']) await adminJson('PUT', `/tenants/${name}`)
    const mine = await createLimitedKey({}, { tenant: 'mine', scopes: ['admin'] })
    const yours = await createLimitedKey({}, { tenant: 'yours' })
    const body = { limits: { requests_per_minute: 1 } }
    expect((await admin('PATCH', `/keys/${mine.id}`, body, mine.key)).status).toBe(200)
    expect((await admin('PATCH', `/keys/${yours.id}`, body, mine.key)).status).toBe(404)
    expect((await admin('PUT', '/tenants/mine', body, mine.key)).status).toBe(403)
  })
})

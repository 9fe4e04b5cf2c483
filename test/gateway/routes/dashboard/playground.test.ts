import { env } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { beforeAll, expect, test } from 'vitest'
import type { CreatedKey, CreateKey } from '@copal/shared/wire/admin-keys.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'
import { signIn, type Browser } from '../../support/requests/dashboard-session.ts'
import { errorOf, sendHeartbeat } from '../../support/requests/gateway-requests.ts'

let node: NodeDouble
const create = (fields: Partial<CreateKey> = {}) =>
  adminJson<CreatedKey>('POST', '/keys', { name: 'of a test', tenant: 'acme', ...fields })

beforeAll(async () => {
  for (const tenant of ['acme', 'other']) await adminJson('PUT', `/tenants/${tenant}`)
  node = await startNode('playground-1', [{ kind: 'answer', body: '{"ok":1}' }])
})

async function ask(browser: Browser, key: string | undefined, headers: Record<string, string> = {}) {
  await sendHeartbeat({ ...node, id: 'playground-1' }, 'tiny')
  return browser.send('POST', '/v1/chat/completions', {
    body: { model: 'tiny', messages: [{ role: 'user', content: 'hello' }] },
    headers: { ...(key === undefined ? {} : { 'x-copal-key': key }), ...headers },
  })
}

test('the operator asks as a key that the request is charged to', async () => {
  const [browser, { id }] = [await signIn(), await create()]
  expect((await ask(browser, id)).status).toBe(200)
  const call = (await node.calls()).at(-1)
  expect((JSON.parse(call?.body ?? '{}') as ChatCall).account).toBe(id)
  const unnamed = await ask(browser, undefined)
  expect([unnamed.status, (await errorOf(unnamed)).param]).toEqual([400, 'x-copal-key'])
  expect((await browser.send('GET', '/v1/models')).status).toBe(400)
})

test('nobody asks as a key that they could not have made, and no other page asks at all', async () => {
  const mine = await create({ scopes: ['admin', 'inference'] })
  const browser = await signIn({ key: mine.key })
  expect((await ask(browser, undefined)).status).toBe(200)
  const [own, above, theirs, mute] = [
    await create(),
    await create({ scopes: ['inference', 'read-metrics'] }),
    await create({ tenant: 'other' }),
    await create({ scopes: ['read-metrics'] }),
  ]
  expect((await ask(browser, own.id)).status).toBe(200)
  for (const { id } of [above, theirs, mute, { id: 'key_of_nobody' }]) {
    const refused = await ask(browser, id)
    expect([refused.status, (await errorOf(refused)).param]).toEqual([403, 'x-copal-key'])
  }
  const observer = await signIn({ key: (await create({ scopes: ['read-admin'] })).key })
  expect((await ask(observer, own.id)).status).toBe(403)
  expect((await ask(browser, undefined, { 'x-copal-csrf': '' })).status).toBe(403)
  expect((await ask(browser, undefined, { origin: 'https://evil.example' })).status).toBe(403)
})

test('a running request ends when the key that it is charged to is revoked', async () => {
  const [{ cookie, entry }, { id }] = [await signIn(), await create()]
  const slow = await startNode('playground-slow', [
    {
      kind: 'stream',
      headers: { 'content-type': 'text/event-stream' },
      chunks: ['data: {"a":1}\n\n'],
      ending: 'hang',
    },
  ])
  await sendHeartbeat(slow, 'slow')
  const ctx = createExecutionContext()
  const response = await createApp({ recheckKeyMs: 20 }).request(
    '/v1/completions',
    {
      method: 'POST',
      headers: { cookie, 'x-copal-csrf': entry.csrf, 'x-copal-key': id },
      body: JSON.stringify({ model: 'slow', prompt: 'x', stream: true }),
    },
    env,
    ctx,
  )
  expect(response.status).toBe(200)
  await adminJson('DELETE', `/keys/${id}`)
  expect(await response.text()).toContain('"code":"invalid_api_key"')
  await waitOnExecutionContext(ctx)
})

import { Hono } from 'hono'
import { beforeAll, expect, test } from 'vitest'
import type { CreatedKey, CreateKey } from '@copal/shared/wire/admin-keys.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import type { KeyWatchOptions } from '../../../../gateway/src/contracts/api-key.ts'
import type { KeyedEnv } from '../../../../gateway/src/contracts/context.ts'
import { createKeyring } from '../../../../gateway/src/keys/keyring.ts'
import { requireKey } from '../../../../gateway/src/middleware/auth.ts'
import { adminJson, testDeps } from '../../support/doubles/simulated-node.ts'
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
  const [{ cookie }, { id }] = [await signIn(), await create()]
  const watches: KeyWatchOptions[] = []
  const app = new Hono<KeyedEnv>()
    .use(async (c, next) => {
      c.set('deps', testDeps())
      await next()
    })
    .get('/v1/models', requireKey(createKeyring()), (c) => {
      watches.push(c.var.keyWatch)
      return c.text('')
    })
  const response = await app.request('/v1/models', { headers: { cookie, 'x-copal-key': id } })
  expect(response.status).toBe(200)
  expect(await watches[0]?.inForce()).toBe(true)
  await adminJson('DELETE', `/keys/${id}`)
  expect(await watches[0]?.inForce()).toBe(false)
})

import { env, exports } from 'cloudflare:workers'
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { createApp } from '../../../gateway/src/app.ts'
import type { Bindings } from '../../../gateway/src/contracts/bindings.ts'
import { openDatabase } from '../../../gateway/src/storage/db/open-database.ts'
import { insertKey, revokeKey } from '../../../gateway/src/storage/db/queries/key-queries.ts'
import { digestOf, generateKey, pepperedHash } from '../../../gateway/src/keys/key-secret.ts'
import { clientNetwork } from '../../../gateway/src/keys/unknown-key-limit.ts'
import { stopClock } from '../support/doubles/stopped-clock.ts'
import { createKey, errorOf, ORIGIN } from '../support/requests/gateway-requests.ts'
import { TEST_KEY_PEPPER } from '../support/setup/secrets.ts'

const LOOK_UP = /from "?api_keys"?/i

/** Starts an isolate of its own, whose look-ups of keys are counted and take `lookUpMs`. */
function startIsolate(variables: Partial<Bindings> = {}, lookUpMs = 0) {
  const lookUps = { total: 0, running: 0, most: 0 }
  const count = async <T>(work: () => Promise<T>): Promise<T> => {
    lookUps.total += 1
    lookUps.running += 1
    lookUps.most = Math.max(lookUps.most, lookUps.running)
    try {
      if (lookUpMs > 0) await new Promise((resolve) => setTimeout(resolve, lookUpMs))
      return await work()
    } finally {
      lookUps.running -= 1
    }
  }
  const counted = (statement: D1PreparedStatement): D1PreparedStatement =>
    new Proxy(statement, {
      get(target, name) {
        if (name === 'bind') return (...values: unknown[]) => counted(target.bind(...values))
        const value = Reflect.get(target, name) as unknown
        if (typeof value !== 'function') return value
        const method = value.bind(target) as (...parameters: unknown[]) => Promise<unknown>
        return ['all', 'raw', 'first', 'run'].includes(String(name))
          ? (...parameters: unknown[]) => count(() => method(...parameters))
          : method
      },
    })
  const DB = new Proxy(env.DB, {
    get(target, name) {
      if (name !== 'prepare') {
        const value = Reflect.get(target, name) as unknown
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      }
      return (query: string) => (LOOK_UP.test(query) ? counted(target.prepare(query)) : target.prepare(query))
    },
  })
  const app = createApp()
  const bindings = { ...env, ...variables, DB }
  const ask = async (key: string, address: string, path = '/v1/models') => {
    const context = createExecutionContext()
    const headers = { authorization: `Bearer ${key}`, 'cf-connecting-ip': address }
    const response = await app.fetch(new Request(ORIGIN + path, { headers }), bindings, context)
    await waitOnExecutionContext(context)
    return response
  }
  return { lookUps, ask }
}

test('a flood of made-up keys from one address is refused from memory, and leaves other clients alone', async () => {
  const goOn = stopClock()
  const { lookUps, ask } = startIsolate()
  const [known, fresh] = [await createKey(), await createKey()]
  expect((await ask(known.key, '192.0.2.1')).status).toBe(200)
  lookUps.total = 0
  const statuses: number[] = []
  for (let keys = 0; keys < 200; keys += 1) statuses.push((await ask(generateKey().key, '192.0.2.1')).status)
  expect(statuses.filter((status) => status === 401).length).toBeGreaterThanOrEqual(60)
  expect(statuses.slice(100)).toEqual(Array.from({ length: 100 }, () => 429))
  expect(lookUps.total).toBeLessThan(100)
  const refused = await ask(generateKey().key, '192.0.2.1')
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(await errorOf(refused)).toMatchObject({
    code: 'rate_limit_exceeded',
    message: expect.stringContaining('Too many unknown API keys') as string,
  })
  expect((await ask(known.key, '192.0.2.1')).status).toBe(200)
  expect((await ask(fresh.key, '192.0.2.2')).status).toBe(200)
  goOn(30_001)
  // The known key is looked up again, though its address sends unknown ones.
  expect((await ask(known.key, '192.0.2.1')).status).toBe(200)
})

test('a key that was revoked is refused from memory, also where its address has sent too many unknown keys', async () => {
  const goOn = stopClock()
  const { ask } = startIsolate()
  const { id, key } = await createKey()
  expect((await ask(key, '192.0.2.1')).status).toBe(200)
  await revokeKey(openDatabase(env.DB), id, Date.now())
  goOn(30_001)
  for (let keys = 0; keys < 100; keys += 1) await ask(generateKey().key, '192.0.2.1')
  expect((await ask(generateKey().key, '192.0.2.1')).status).toBe(429)
  // The first check finds that it is gone. A running request of it must be told the same, or it would go on.
  for (let check = 0; check < 3; check += 1) expect((await ask(key, '192.0.2.1')).status).toBe(401)
  goOn(30_001)
  for (let keys = 0; keys < 100; keys += 1) await ask(generateKey().key, '192.0.2.1')
  expect((await ask(key, '192.0.2.1')).status).toBe(401)
})

test('an unknown key is looked up once in five seconds, and works within that time after it is created', async () => {
  const goOn = stopClock()
  const { lookUps, ask } = startIsolate()
  const { key, prefix } = generateKey()
  for (let asks = 0; asks < 20; asks += 1) expect((await ask(key, '192.0.2.1')).status).toBe(401)
  expect(lookUps.total).toBe(1)
  await insertKey(openDatabase(env.DB), {
    id: `key_${crypto.randomUUID()}`,
    name: 'test',
    hash: await pepperedHash(TEST_KEY_PEPPER, await digestOf(key)),
    peppered: true,
    prefix,
    defaultDomain: 'default',
    sampling: 'never',
    createdAt: Date.now(),
    tenant: 'default',
    scopes: ['inference'],
  })
  goOn(5_000)
  expect((await ask(key, '192.0.2.1')).status).toBe(200)
})

test('few keys are looked up at once, also of many addresses, and all get their turn', async () => {
  const { lookUps, ask } = startIsolate({}, 10)
  const asked = Array.from({ length: 40 }, (_, client) => ask(generateKey().key, `198.51.100.${client}`))
  const statuses = (await Promise.all(asked)).map(({ status }) => status)
  expect(new Set(statuses)).toEqual(new Set([401]))
  expect(lookUps.most).toBeLessThanOrEqual(8)
  lookUps.most = 0
  await Promise.all(Array.from({ length: 10 }, () => ask(generateKey().key, '192.0.2.1')))
  expect(lookUps.most).toBe(4)
})

test.each(['60', '0'])(
  'the first requests of many keys from one address are all served where %s unknown keys a minute are allowed',
  async (limit) => {
    stopClock()
    const { ask } = startIsolate({ COPAL_UNKNOWN_KEYS_PER_MINUTE: limit }, 20)
    const keys = await Promise.all(Array.from({ length: 24 }, () => createKey()))
    const responses = await Promise.all(keys.map(({ key }) => ask(key, '192.0.2.1')))
    expect(responses.map(({ status }) => status)).toEqual(keys.map(() => 200))
  },
)

test('clients that disconnect while their keys are looked up or wait keep no other key from being looked up', async () => {
  const { key } = await createKey()
  const send = (token: string, init: RequestInit = {}) =>
    exports.default.fetch(
      new Request(`${ORIGIN}/v1/models`, { ...init, headers: { authorization: `Bearer ${token}` } }),
    )
  // The database does one thing after another.
  const busy = env.DB.prepare(
    'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT max(i) FROM n',
  ).all()
  const clients = Array.from({ length: 40 }, () => new AbortController())
  const left = clients.map(({ signal }) => send(generateKey().key, { signal }).catch(() => undefined))
  await new Promise((resolve) => setTimeout(resolve, 50))
  for (const client of clients) client.abort()
  await Promise.all([busy, ...left])
  expect((await send(key)).status).toBe(200)
})

test('many first requests with one key share its look-up', async () => {
  const { lookUps, ask } = startIsolate({}, 20)
  const { key } = await createKey()
  const responses = await Promise.all(Array.from({ length: 50 }, () => ask(key, '192.0.2.1')))
  expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]))
  expect(lookUps.total).toBe(1)
})

test("Cloudflare's rate limit, where it is bound, refuses an address that this isolate would still allow", async () => {
  const goOn = stopClock()
  const counted: string[] = []
  const limit = async ({ key }: { key: string }) => {
    counted.push(key)
    return { success: counted.length < 3 }
  }
  const { ask } = startIsolate({ UNKNOWN_KEYS: { limit } })
  const statuses: number[] = []
  for (let keys = 0; keys < 5; keys += 1) statuses.push((await ask(generateKey().key, '192.0.2.1')).status)
  expect(statuses).toEqual([401, 401, 401, 429, 429])
  expect(counted).toEqual(['192.0.2.1', '192.0.2.1', '192.0.2.1'])
  goOn(10_000)
  expect((await ask(generateKey().key, '192.0.2.1')).status).toBe(401)
})

test('lists are bounded for each key, with the time to try again', async () => {
  const goOn = stopClock()
  const { ask } = startIsolate({ COPAL_LISTS_PER_MINUTE: '18' })
  const [busy, other] = [await createKey({ scopes: ['inference', 'admin'] }), await createKey()]
  for (const path of ['/v1/models', '/models', '/v1/models'])
    expect((await ask(busy.key, '192.0.2.1', path)).status).toBe(200)
  const refused = await ask(busy.key, '192.0.2.1')
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '4'])
  expect(await errorOf(refused)).toMatchObject({ code: 'rate_limit_exceeded' })
  expect((await ask(other.key, '192.0.2.1')).status).toBe(200)
  for (let lists = 0; lists < 3; lists += 1)
    expect((await ask(busy.key, '192.0.2.1', '/admin/keys')).status).toBe(200)
  expect((await ask(busy.key, '192.0.2.1', '/admin/keys')).status).toBe(429)
  goOn(4_000)
  expect((await ask(busy.key, '192.0.2.1')).status).toBe(200)
})

test('an IPv6 client is its /64, in which it can take any address', () => {
  expect(clientNetwork('192.0.2.7')).toBe('192.0.2.7')
  expect(clientNetwork('2001:DB8:1:2:3:4:5:6')).toBe('2001:db8:1:2::/64')
  expect(clientNetwork('2001:db8::1')).toBe('2001:db8:0:0::/64')
  expect(clientNetwork('::1')).toBe('0:0:0:0::/64')
  expect(clientNetwork('2001:db8:1:2::')).toBe('2001:db8:1:2::/64')
  expect(clientNetwork('::ffff:192.0.2.7')).toBe('::ffff:192.0.2.7')
  expect(clientNetwork(undefined)).toBe('')
})

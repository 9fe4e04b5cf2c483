import { expect, test } from 'vitest'
import { stopClock } from '../support/doubles/stopped-clock.ts'
import { admin } from '../support/doubles/simulated-node.ts'
import { createKey, errorOf } from '../support/requests/gateway-requests.ts'

test('a key makes as many changes at once as it may, and more get a 429 with a time; the admin key has no limit', async () => {
  const goOn = stopClock()
  const { key } = await createKey({ scopes: ['inference', 'admin'] })
  const { id } = await createKey()
  const change = (by?: string) => admin('PATCH', `/keys/${id}`, { limits: { requests_per_minute: 60 } }, by)
  const statuses: number[] = []
  for (let call = 0; call < 60; call += 1) statuses.push((await change(key)).status)
  expect(new Set(statuses)).toEqual(new Set([200]))
  const rejected = await change(key)
  expect([rejected.status, (await errorOf(rejected)).code]).toEqual([429, 'rate_limit_exceeded'])
  expect(rejected.headers.get('retry-after')).toBe('1')
  goOn(1_000)
  expect([(await change(key)).status, (await change(key)).status]).toEqual([200, 429])
  // Lists have an allowance of their own.
  expect((await admin('GET', '/keys', undefined, key)).status).toBe(200)
  for (let call = 0; call < 64; call += 1) expect((await change()).status).toBe(200)
})

test('a list that is read without its body counts as one', async () => {
  stopClock()
  const { key } = await createKey({ scopes: ['inference', 'admin'] })
  const read = async () => (await admin('HEAD', '/keys', undefined, key)).status
  for (let list = 0; list < 50; list += 1) expect(await read()).toBe(200)
  expect(await read()).toBe(429)
})

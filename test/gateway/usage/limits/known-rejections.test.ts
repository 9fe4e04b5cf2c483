import { env } from 'cloudflare:workers'
import { expect, onTestFinished, test, vi } from 'vitest'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import { Fleet } from '../../../../gateway/src/fleet/object/fleet.ts'
import { createKnownRejections } from '../../../../gateway/src/usage/limits/known-rejections.ts'
import type { LimitRejection } from '../../../../gateway/src/contracts/reservation.ts'
import { adminJson } from '../../support/doubles/simulated-node.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { errorOf, post, sendHeartbeat } from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey } from '../../support/requests/limited-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'

const ANSWER = { kind: 'answer', headers: { 'content-type': 'application/json' }, body: '{"ok":1}' } as const
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))

async function startTinyNode(model: string) {
  const node = await startNode(`known-${model}`, [ANSWER])
  await sendHeartbeat(node, model)
  return () => sendHeartbeat(node, model)
}

function acquireCalls() {
  const acquire = vi.spyOn(Fleet.prototype, 'acquire')
  onTestFinished(() => acquire.mockRestore())
  return acquire.mock.calls
}

test('a key at its limit is refused without a call of the fleet until its window turns, and is counted', async () => {
  const goOn = stopClock()
  const beat = await startTinyNode('known-1')
  const { key } = await createLimitedKey({ requests_per_minute: 2 })
  const other = await createLimitedKey({ requests_per_minute: 100 })
  const calls = acquireCalls()
  const statuses: number[] = []
  for (let requests = 0; requests < 30; requests += 1)
    statuses.push((await ask(key, { model: 'known-1' })).status)
  expect(statuses.slice(0, 3)).toEqual([200, 200, 429])
  expect(new Set(statuses.slice(2))).toEqual(new Set([429]))
  expect(calls).toHaveLength(3)
  const refused = await ask(key, { model: 'known-1' })
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
  expect(refused.headers.get('x-ratelimit-limit-requests')).toBe('2')
  expect(await errorOf(refused)).toMatchObject({ code: 'rate_limit_exceeded' })
  expect((await ask(other.key, { model: 'known-1' })).status).toBe(200)
  expect(await fleet().rejectionCounts()).toContainEqual({
    tenant: 'default',
    model: 'known-1',
    reason: 'requests',
    requests: 29,
  })
  goOn(61_000)
  await beat()
  expect((await ask(key, { model: 'known-1' })).status).toBe(200)
})

test('a key is not refused for requests that got no node, although a rejection is known', async () => {
  const goOn = stopClock()
  const node = await startNode('known-4', [ANSWER])
  await sendHeartbeat(node, 'known-4', { draining: true })
  const { key } = await createLimitedKey({ requests_per_minute: 1 })
  const abandon = vi.spyOn(Fleet.prototype, 'abandon')
  onTestFinished(() => abandon.mockRestore())
  const acquired = acquireCalls()
  const controller = new AbortController()
  const body = { model: 'known-4', prompt: 'x' }
  const waiting = post(key, '/v1/completions', body, { signal: controller.signal }).catch(() => undefined)
  await expect.poll(() => acquired).toHaveLength(1)
  expect((await ask(key, { model: 'known-4' })).status).toBe(429)
  controller.abort()
  await waiting
  await expect.poll(() => abandon.mock.results).not.toHaveLength(0)
  await sendHeartbeat(node, 'known-4')
  goOn(1_000)
  expect((await ask(key, { model: 'known-4' })).status).toBe(200)
})

test('a raised limit works within the trust in the key, although a rejection is known', async () => {
  const goOn = stopClock()
  const beat = await startTinyNode('known-2')
  const { id, key } = await createLimitedKey({ requests_per_minute: 1 })
  for (const status of [200, 429, 429]) expect((await ask(key, { model: 'known-2' })).status).toBe(status)
  await adminJson('PATCH', `/keys/${id}`, { limits: { requests_per_minute: 5 } })
  goOn(SETTINGS.COPAL_KEY_TRUST_MS.default)
  await beat()
  expect((await ask(key, { model: 'known-2' })).status).toBe(200)
})

test('only requests that are at least as large are refused for tokens, and none for concurrent requests', () => {
  const known = createKnownRejections()
  const accounts = [{ kind: 'key', name: 'a', limits: { tokensPerMinute: 100 } }] as const
  const size = { promptTokens: 50, maxTokens: 60, model: 'm', tenant: 't' }
  const rejection: LimitRejection = {
    kind: 'key',
    limit: 'tokens',
    allowed: 100,
    remaining: 70,
    needed: 110,
    retryAfterMs: 30_000,
    rates: { tokens: { limit: 100, remaining: 70, resetMs: 30_000 } },
  }
  const when = { nowMs: 0, trustMs: 30_000 }
  known.record(accounts, size, rejection, when)
  expect(known.find(accounts, size, 400)).toMatchObject({
    retryAfterMs: 29_600,
    rates: { tokens: { resetMs: 29_600 } },
  })
  expect(known.find(accounts, { ...size, maxTokens: 10 }, 400)).toBeUndefined()
  expect(known.find(accounts, { ...size, maxTokens: null }, 400)).toBeUndefined()
  expect(known.find(accounts, size, 1_000)).toBeUndefined()
  const choices = { ...size, choices: 3 }
  known.record(accounts, choices, { ...rejection, retryAfterMs: null }, when)
  expect(known.find(accounts, { ...choices, promptTokens: 70 }, 1)).toMatchObject({ retryAfterMs: null })
  known.record(accounts, size, { ...rejection, limit: 'concurrent', retryAfterMs: 2_000 }, when)
  expect(known.find(accounts, size, 1)).toBeUndefined()
  expect(known.takeCounts()).toEqual([{ tenant: 't', model: 'm', reason: 'tokens', requests: 2 }])
  expect(known.takeCounts()).toEqual([])
})

test('a used-up month is refused for the trust in the key, whose changed limits are asked for again', () => {
  const known = createKnownRejections()
  const limited = (tokensPerMonth: number) =>
    [{ kind: 'key', name: 'a', limits: { tokensPerMonth } }] as const
  const size = { promptTokens: 5, maxTokens: 6, model: 'm', tenant: 't' }
  const rejection = {
    kind: 'key',
    limit: 'month',
    allowed: 9,
    remaining: 9,
    needed: 11,
    retryAfterMs: null,
    rates: {},
  } as const
  known.record(limited(9), size, rejection, { nowMs: 0, trustMs: 30_000 })
  expect(known.find(limited(9), size, 29_999)).toEqual(rejection)
  expect(known.find(limited(20), size, 1)).toBeUndefined()
  known.record(limited(9), size, rejection, { nowMs: 0, trustMs: 30_000 })
  expect(known.find(limited(9), size, 30_000)).toBeUndefined()
})

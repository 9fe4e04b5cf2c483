import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import type { Limits } from '../../../../gateway/src/contracts/limits.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

/** Creates a fleet whose key and tenant had a monthly limit of 150 tokens, used ten, and have no limits any more. */
async function open(name: string) {
  const fleet = env.FLEET.get(env.FLEET.idFromName(name))
  await fleet.heartbeat(heartbeatOf({ id: 'node-1', url: 'http://127.0.0.1:9' }, 'm'), 0)
  const ask = (requestId: string, limits: { key?: Limits; tenant?: Limits } = {}) => {
    const accounts = (['key', 'tenant'] as const).flatMap((kind) =>
      limits[kind] ? [{ kind, name: `${kind}-${name}`, limits: limits[kind] }] : [],
    )
    return fleet.acquire({
      model: 'm',
      requestId,
      domain: 'default',
      account: `key-${name}`,
      tenant: `tenant-${name}`,
      promptTokens: 10,
      exclude: [],
      ...(accounts.length > 0 ? { limits: { requestId, accounts, maxTokens: 30 } } : {}),
    })
  }
  const settle = (requestId: string, tokens: number) => fleet.settle([{ requestId, tokens, succeeded: true }])
  expect((await ask('limited', { key: MONTH, tenant: MONTH })).ok).toBe(true)
  await settle('limited', 10)
  return { fleet, ask, settle }
}
const MONTH = { tokensPerMonth: 150 }
const refused = (kind: 'key' | 'tenant', remaining: number) => ({
  ok: false,
  rejection: { kind, limit: 'month', remaining },
})

test('usage without monthly limits counts when the limits return', async () => {
  const { ask, settle } = await open('limits-off')
  await ask('free')
  await settle('free', 120)
  expect(await ask('back', { key: MONTH })).toMatchObject(refused('key', 20))
  expect(await ask('back', { tenant: MONTH })).toMatchObject(refused('tenant', 20))
})

test('usage of a limited key counts once for the key, and for its tenant without limits', async () => {
  const { ask, settle } = await open('tenant-off')
  await ask('half-free', { key: MONTH })
  await settle('half-free', 120)
  expect(await ask('back', { key: MONTH })).toMatchObject(refused('key', 20))
  expect(await ask('back', { tenant: MONTH })).toMatchObject(refused('tenant', 20))
})

test('the estimated usage of a node that died counts too', async () => {
  const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now())
  onTestFinished(() => clock.mockRestore())
  const { fleet, ask } = await open('died-then')
  await ask('lost')
  const lost = { requestId: 'lost', promptTokens: 10, completionTokens: 115, idleMs: 0 }
  await fleet.heartbeat(
    heartbeatOf({ id: 'node-1', url: 'http://127.0.0.1:9' }, 'm', { requests: [lost] }),
    0,
  )
  for (let halves = 0; halves < 3; halves += 1) {
    clock.mockReturnValue(Date.now() + DEFAULT_POLICY.deadMs / 2)
    await runDurableObjectAlarm(fleet)
  }
  expect(await ask('back', { key: MONTH })).toMatchObject(refused('key', 15))
})

import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { openDatabase } from '../../../gateway/src/db/database.ts'
import { sumUsage } from '../../../gateway/src/db/queries/receipts.ts'
import { FleetState } from '../../../gateway/src/fleet/state.ts'
import type { NodeRecord } from '../../../gateway/src/fleet/state.ts'
import { heartbeatOf } from '../support/gateway.ts'

const node = { id: 'node-1', url: 'http://127.0.0.1:9' }
const open = (name: string) => env.FLEET.get(env.FLEET.idFromName(name))
const ask = (requestId: string) => ({ model: 'm', requestId, domain: 'legal', promptTokens: 12, exclude: [] })

test('nodes and leases survive a restart of the Durable Object', async () => {
  const fleet = open('restart')
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await fleet.acquire(ask('request-before-heartbeat'))
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await evictDurableObject(fleet)
  const { nodes } = await fleet.snapshot()
  expect(nodes).toMatchObject([{ id: 'node-1', alive: true, leases: 1 }])
  expect(await fleet.acquire(ask('request-after'))).toMatchObject({ ok: true, nodeId: 'node-1' })
  await fleet.release(['request-before-heartbeat'])
  expect((await fleet.snapshot()).nodes[0]?.leases).toBe(1)
})

test('a lease whose node died is settled from its reservation by the alarm', async () => {
  const fleet = open('death')
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await fleet.acquire(ask('request-lost'))
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  // The clock cannot be turned on, so the stored state is made older and loaded again.
  await runInDurableObject(fleet, async (_instance, state) => {
    const record = await state.storage.get<NodeRecord>('node:node-1')
    if (!record) throw new Error('the node is not stored')
    const [lease] = record.leases
    expect(lease?.requestId).toBe('request-lost')
    await state.storage.put('node:node-1', { ...record, seenAtMs: record.seenAtMs - 60_000 })
  })
  await evictDurableObject(fleet)
  expect(await runDurableObjectAlarm(fleet)).toBe(true)
  expect((await fleet.snapshot()).nodes).toMatchObject([{ id: 'node-1', alive: false, leases: 0 }])
  const usage = await sumUsage(openDatabase(env.DB))
  expect(usage).toEqual([
    {
      model: 'm',
      domain: 'legal',
      maskVersion: 0,
      finishReason: 'error',
      requests: 1,
      promptTokens: 12,
      completionTokens: 0,
    },
  ])
})

test('a node that stays away is forgotten, in storage too, and the alarm rests', async () => {
  const fleet = open('forgotten')
  const state = new FleetState()
  state.heartbeat(heartbeatOf(node, 'm'), 0, Date.now() - 3_600_000)
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await runInDurableObject(fleet, async (_instance, { storage }) => {
    await storage.put('node:node-1', state.record('node-1'))
  })
  await evictDurableObject(fleet)
  await runDurableObjectAlarm(fleet)
  expect(await fleet.snapshot()).toEqual({ nodes: [] })
  await runInDurableObject(fleet, async (_instance, { storage }) => {
    expect((await storage.list()).size).toBe(0)
    expect(await storage.getAlarm()).toBeNull()
  })
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await runInDurableObject(fleet, async (_instance, { storage }) => {
    expect(await storage.getAlarm()).not.toBeNull()
  })
})

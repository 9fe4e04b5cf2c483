import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { receipts } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { RESERVATION_MS } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import { Fleet } from '../../../../gateway/src/fleet/object/fleet.ts'
import { DEFAULT_POLICY } from '../../../../gateway/src/fleet/object/policy-variables.ts'
import { FleetState } from '../../../../gateway/src/fleet/object/fleet-state.ts'
import type { AccountRecord, Reservation } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { createKey, receiptOf } from '../../support/requests/gateway-requests.ts'
import { loseDatabase } from '../../support/faults/lost-database.ts'
import { stopClock } from '../../support/doubles/stopped-clock.ts'
import { sumUsage } from '../../support/state/usage-sums.ts'

/** The most that Cloudflare takes as a parameter of D1, and as a stored value of a Durable Object; workerd takes more. */
const MAX_VALUE_BYTES = 2_000_000
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
  await fleet.settle([{ requestId: 'request-before-heartbeat', tokens: 1, succeeded: true }])
  expect((await fleet.snapshot()).nodes[0]?.leases).toBe(1)
})

test('an attempt that asks again while it waits keeps its reservation', async () => {
  const fleet = open('asks-again')
  await fleet.heartbeat(heartbeatOf(node, 'm', { draining: true }), 0)
  const accounts = [{ kind: 'key' as const, name: 'k', limits: { concurrentRequests: 1 } }]
  const again = () =>
    fleet.acquire({ ...ask('request-1'), limits: { requestId: 'request-1', accounts, maxTokens: 1 } })
  const asked = [again(), again()]
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  expect(await Promise.all(asked)).toMatchObject([{ ok: true }, { ok: true }])
  expect((await fleet.snapshot()).nodes).toMatchObject([{ leases: 1 }])
  await fleet.saveCounts()
  const holds = await runInDurableObject(fleet, (_, { storage }) =>
    storage.list<Reservation>({ prefix: 'hold:' }),
  )
  expect([...holds.keys()]).toEqual(['hold:request-1'])
})

test('the alarm settles a lease whose node died from its reservation, once the database responds', async () => {
  const fleet = open('death')
  const startMs = Date.now()
  const clock = vi.spyOn(Date, 'now').mockReturnValue(startMs)
  onTestFinished(() => clock.mockRestore())
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await fleet.acquire(ask('request-lost'))
  clock.mockReturnValue(startMs + DEFAULT_POLICY.deadMs - 5_000)
  await runDurableObjectAlarm(fleet)
  expect((await fleet.snapshot()).nodes).toMatchObject([{ id: 'node-1', alive: false, leases: 1 }])

  clock.mockReturnValue(startMs + DEFAULT_POLICY.deadMs + 5_000)
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  await env.DB.exec('ALTER TABLE receipts RENAME TO receipts_away')
  await runDurableObjectAlarm(fleet)
  expect(error).toHaveBeenCalledOnce()
  error.mockRestore()
  expect((await fleet.snapshot()).nodes).toMatchObject([{ leases: 1 }])

  await env.DB.exec('ALTER TABLE receipts_away RENAME TO receipts')
  expect(await runDurableObjectAlarm(fleet)).toBe(true)
  expect((await fleet.snapshot()).nodes).toMatchObject([{ leases: 0 }])
  const usage = await sumUsage(openDatabase(env.DB))
  expect(usage).toEqual([
    {
      tenant: null,
      model: 'm',
      domain: 'legal',
      maskVersion: 0,
      finishReason: 'estimated',
      requests: 1,
      promptTokens: 12,
      completionTokens: 0,
    },
  ])
})

test('the leases of a crowded node are stored, and settled if it dies, in values that Cloudflare takes', async () => {
  const fleet = open('many-leases')
  const goOn = stopClock()
  const crowded = { id: 'n'.repeat(64), url: node.url }
  const model = 'm'.repeat(128)
  const request = {
    ...ask(''),
    model,
    domain: 'd'.repeat(64),
    account: 'k'.repeat(64),
    tenant: 't'.repeat(64),
  }
  const ids = Array.from({ length: 3_500 }, (_, number) => `request-${number}`.padEnd(64, '-'))
  await fleet.heartbeat(heartbeatOf(crowded, model), 0)
  await runInDurableObject(fleet, async (object) => {
    for (const requestId of ids) await object.acquire({ ...request, requestId })
  })
  const progress = { promptTokens: 30_000, completionTokens: 30_000, idleMs: 1_000, firstTokenWaitMs: 1_000 }
  const requests = ids.map((requestId) => ({ requestId, ...progress }))
  // The gateway reads a heartbeat of up to 4 MiB.
  const jobs = [{ id: 'job', state: 'done' as const, progress: 1, message: 'x'.repeat(MAX_VALUE_BYTES) }]
  await fleet.heartbeat(heartbeatOf(crowded, model, { requests, jobs }), 0)
  const stored = await runInDurableObject(fleet, async (_, { storage }) =>
    JSON.stringify(await storage.get(`node:${crowded.id}`)),
  )
  const statement = Object.getPrototypeOf(env.DB.prepare('select 1')) as D1PreparedStatement
  const bind = vi.spyOn(statement, 'bind')
  onTestFinished(() => bind.mockRestore())
  for (const aheadMs of [DEFAULT_POLICY.deadMs - 5_000, 10_000]) {
    goOn(aheadMs)
    await runDurableObjectAlarm(fleet)
  }
  expect((await fleet.snapshot()).nodes).toMatchObject([{ leases: 0 }])
  const longest = Math.max(...bind.mock.calls.flat().map((value) => String(value).length))
  expect([stored.length < MAX_VALUE_BYTES, longest < MAX_VALUE_BYTES]).toEqual([true, true])
})

test('the reservation of a request that waits for a node for minutes stays', async () => {
  const goOn = stopClock()
  const holds = await runInDurableObject(open('patient'), async (_, state) => {
    const fleet = new Fleet(state, { ...env, COPAL_NODE_WAIT_MS: '600000' })
    // It reads its storage first.
    await state.blockConcurrencyWhile(() => Promise.resolve())
    await fleet.heartbeat(heartbeatOf(node, 'm', { draining: true }), 0)
    const accounts = [{ kind: 'key' as const, name: 'k', limits: { concurrentRequests: 1 } }]
    const limits = { requestId: 'request-1', accounts, maxTokens: 1 }
    const waiting = fleet.acquire({ ...ask('request-1'), limits })
    goOn(2 * RESERVATION_MS)
    await fleet.heartbeat(heartbeatOf(node, 'm', { draining: true }), 0)
    await fleet.alarm()
    await fleet.saveCounts()
    const kept = await state.storage.list<Reservation>({ prefix: 'hold:' })
    fleet.abandon('request-1', 'request-1')
    await waiting
    await state.storage.deleteAlarm()
    return [...kept.keys()]
  })
  expect(holds).toEqual(['hold:request-1'])
})

test('the receipt of a lease that expired corrects its estimate, also after a restart', async () => {
  const fleet = open('late-receipt')
  const goOn = stopClock()
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  const accounts = [{ kind: 'key' as const, name: 'k', limits: { tokensPerMonth: 100 } }]
  await fleet.acquire({ ...ask('late'), limits: { requestId: 'late', accounts, maxTokens: 1 } })
  for (const aheadMs of [DEFAULT_POLICY.deadMs - 5_000, 10_000]) {
    goOn(aheadMs)
    await runDurableObjectAlarm(fleet)
  }
  const spent = () =>
    runInDurableObject(fleet, async (object, { storage }) => {
      await object.saveCounts()
      return (await storage.get<AccountRecord>('account:key:k'))?.spent
    })
  expect(await spent()).toBe(12)
  // An earlier version would take it for an open reservation, and charge it again.
  const holds = await runInDurableObject(fleet, (_, { storage }) => storage.list({ prefix: 'hold:' }))
  expect(holds.size).toBe(0)
  await evictDurableObject(fleet)
  await fleet.settle([{ requestId: 'late', tokens: 20, succeeded: true }])
  expect(await spent()).toBe(20)
})

test('a request without output is charged nothing, also if the object restarts before it has stored that', async () => {
  const fleet = () => open('restart-after-failure')
  const goOn = stopClock()
  await fleet().heartbeat(heartbeatOf(node, 'm'), 0)
  const accounts = [{ kind: 'key' as const, name: 'k', limits: { tokensPerMonth: 100 } }]
  await fleet().acquire({ ...ask('gone'), limits: { requestId: 'gone', accounts, maxTokens: 50 } })
  await fleet().saveCounts()
  await runInDurableObject(fleet(), async (object, state) => {
    object.fail({ requestId: 'gone', nodeId: node.id, how: 'broke' })
    object.finish(['gone'], true)
    await state.storage.sync()
    state.abort('reset by a test')
  }).catch(() => undefined)
  for (const aheadMs of [6_000, RESERVATION_MS]) {
    goOn(aheadMs)
    await runDurableObjectAlarm(fleet())
  }
  await fleet().saveCounts()
  const stored = await runInDurableObject(fleet(), async (_, { storage }) => ({
    spent: (await storage.get<AccountRecord>('account:key:k'))?.spent ?? 0,
    failed: (await storage.list({ prefix: 'failed:' })).size,
  }))
  expect(stored).toEqual({ spent: 0, failed: 0 })
})

test('a receipt that a batch has twice is charged once, also to a key without limits', async () => {
  const fleet = open('twice')
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  const accounts = [{ kind: 'key' as const, name: 'k', limits: { tokensPerMonth: 100 } }]
  await fleet.acquire({ ...ask('request-1'), limits: { requestId: 'request-1', accounts, maxTokens: 1 } })
  await fleet.acquire({ ...ask('request-2'), account: 'k' })
  const receipt = { requestId: 'request-2', tokens: 5, succeeded: true }
  await fleet.settle([receipt, receipt])
  await fleet.saveCounts()
  const account = await runInDurableObject(fleet, (_, { storage }) =>
    storage.get<AccountRecord>('account:key:k'),
  )
  expect(account).toMatchObject({ spent: 5 })
})

describe('a request that runs when its key gets a monthly limit', () => {
  /** Leases a node for a request without limits, and one with a limit for another request of the key. */
  const limitedLater = async (name: string) => {
    const { id } = await createKey()
    const fleet = open(name)
    await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
    const first = await fleet.acquire({ ...ask(`${name}-1`), account: id })
    const accounts = [{ kind: 'key' as const, name: id, limits: { tokensPerMonth: 1_000 } }]
    const limits = { requestId: `${name}-2`, accounts, maxTokens: 1 }
    return {
      id,
      fleet,
      failed: { requestId: `${name}-1`, nodeId: first.ok ? first.nodeId : '', how: 'broke' as const },
      limit: () => fleet.acquire({ ...ask(`${name}-2`), account: id, limits }),
      settle: () => fleet.settle([{ requestId: `${name}-1`, tokens: 15, succeeded: true }]),
      /** Returns what the object has stored by itself. */
      spent: async () => {
        const stored = await runInDurableObject(fleet, (_, { storage }) =>
          storage.get<AccountRecord>(`account:key:${id}`),
        )
        return stored?.spent
      },
    }
  }

  test('is charged once if its receipt is stored before the limit, and settled after it', async () => {
    const { id, limit, settle, spent } = await limitedLater('stored-before')
    const receipt = receiptOf('stored-before-1', { account: id })
    await insertReceipts(openDatabase(env.DB), node.id, [receipt], 'node', Date.now() - 10)
    await limit()
    await settle()
    await expect.poll(spent).toBe(15)
  })

  test('is charged once if its receipts cannot be read until it is settled', async () => {
    const { id, limit, settle, spent } = await limitedLater('read-late')
    const receipt = receiptOf('read-late-1', { account: id })
    await insertReceipts(openDatabase(env.DB), node.id, [receipt], 'node', Date.now() - 10)
    const errors = loseDatabase()
    await limit()
    expect(errors).toHaveBeenCalledTimes(1)
    vi.restoreAllMocks()
    await settle()
    await limit()
    await expect.poll(spent).toBe(15)
  })

  test('is charged once after a limit of its rate, also if its receipts are deleted before the monthly limit', async () => {
    const { id, fleet, settle, spent, limit } = await limitedLater('rate-first')
    const store = (requestId: string, atMs: number) =>
      insertReceipts(openDatabase(env.DB), node.id, [receiptOf(requestId, { account: id })], 'node', atMs)
    await store('rate-first-0', Date.now() - 10)
    const accounts = [{ kind: 'key' as const, name: id, limits: { requestsPerMinute: 9 } }]
    const limits = { requestId: 'rate-first-3', accounts, maxTokens: 1 }
    await fleet.acquire({ ...ask('rate-first-3'), account: id, limits })
    await store('rate-first-1', Date.now() + 10)
    await settle()
    await runDurableObjectAlarm(fleet)
    await expect.poll(spent).toBe(30)
    await openDatabase(env.DB).delete(receipts)
    await limit()
    await fleet.saveCounts()
    expect(await spent()).toBe(30)
  })

  test('is charged nothing if its output reached no client, also if its receipt came before', async () => {
    const { id, fleet, failed, limit, settle, spent } = await limitedLater('refunded')
    await limit()
    await settle()
    await expect.poll(spent).toBe(15)
    await fleet.acquire({ ...ask('refunded-3'), account: id, failed })
    await expect.poll(spent).toBe(0)
  })

  test('is charged nothing if it is not retried, also if its receipt came before', async () => {
    const { fleet, failed, limit, settle, spent } = await limitedLater('refunded-last')
    await limit()
    await settle()
    await expect.poll(spent).toBe(15)
    await fleet.fail(failed)
    await expect.poll(spent).toBe(0)
  })

  test('is charged nothing if it fails while its receipt is being stored', async () => {
    const { fleet, failed, limit, settle, spent } = await limitedLater('fails-meanwhile')
    await limit()
    await fleet.fail(failed)
    await settle()
    await fleet.saveCounts()
    expect(await spent()).toBe(0)
  })
})

test('requests for unknown models are counted together', async () => {
  const fleet = open('invented-models')
  await fleet.heartbeat(heartbeatOf(node, 'm', { draining: true }), 0)
  for (const model of ['m', 'invented-1', 'invented-2'])
    await fleet.acquire({ ...ask(`request-${model}`), model, version: 7 })
  const count = { tenant: '', requests: 1, reason: 'absent', model: 'm' }
  expect(await fleet.rejectionCounts()).toEqual([
    count,
    { ...count, requests: 2, reason: 'unknown', model: '(unknown)' },
  ])
})

test('a node that stays away is forgotten, in storage too, and no alarm is set any more', async () => {
  const fleet = open('forgotten')
  const state = new FleetState()
  state.heartbeat(heartbeatOf(node, 'm'), 0, Date.now() - 3_600_000)
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  await runInDurableObject(fleet, async (_instance, { storage }) => {
    await storage.put('node:node-1', state.nodes.record('node-1'))
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

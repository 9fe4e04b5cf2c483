import { createExecutionContext, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, test } from 'vitest'
import type { HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { createApp } from '../../../../gateway/src/app.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findModel } from '../../../../gateway/src/storage/db/queries/model-queries.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { sumDrift } from '../../../../gateway/src/storage/db/queries/usage-total-queries.ts'
import { deleteOldReceipts } from '../../../../gateway/src/storage/retention.ts'
import { receipts as receiptTable } from '../../../../gateway/src/storage/db/schema/usage.ts'
import { testDeps } from '../../support/doubles/simulated-node.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { sendHeartbeat, errorOf, receiptOf, signedPost } from '../../support/requests/gateway-requests.ts'
import { activate, seedMask } from '../../support/state/seed-masks.ts'
import { sumUsage } from '../../support/state/usage-sums.ts'

const db = openDatabase(env.DB)
const node = { id: 'node-1', url: 'http://127.0.0.1:9' }
const DAY_MS = 24 * 60 * 60 * 1000
const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))

describe('a heartbeat', () => {
  test('registers a new model and tells the node to serve the dense weights', async () => {
    expect(await sendHeartbeat(node, 'first')).toEqual({
      registered: true,
      desired: { active: null, previous: null },
      jobs: [],
    })
    expect(await findModel(db, 'first')).toMatchObject({
      id: 'first',
      baseSha256: 'a'.repeat(64),
      contextLength: 2048,
      activeVersion: 0,
      previousVersion: null,
    })
    expect((await fleet().snapshot()).nodes).toMatchObject([
      { id: 'node-1', url: node.url, model: 'first', alive: true },
    ])
  })

  test('from a node with other weights under a known name is rejected with both hashes, and changes nothing', async () => {
    await sendHeartbeat(node, 'weights')
    const other = { ...heartbeatOf({ ...node, id: 'impostor' }, 'weights') }
    const response = await signedPost('/internal/nodes/heartbeat', {
      ...other,
      model: { ...other.model, baseSha256: 'b'.repeat(64) },
    })
    expect(response.status).toBe(409)
    const { message } = await errorOf(response)
    expect(message).toContain('a'.repeat(64))
    expect(message).toContain('b'.repeat(64))
    expect((await fleet().snapshot()).nodes.map(({ id }) => id)).not.toContain('impostor')
  })

  test('gets the masks that the model should serve', async () => {
    await sendHeartbeat(node, 'masked')
    const first = { version: 1, sha256: 'c'.repeat(64) }
    const second = { version: 2, sha256: 'd'.repeat(64) }
    for (const { version, sha256 } of [first, second]) await seedMask('masked', version, { sha256 })
    await activate('masked', 1)
    expect((await sendHeartbeat(node, 'masked')).desired).toEqual({ active: first, previous: null })
    await activate('masked', 2)
    expect((await sendHeartbeat(node, 'masked')).desired).toEqual({ active: second, previous: first })
    await activate('masked', 0)
    expect((await sendHeartbeat(node, 'masked')).desired).toEqual({ active: null, previous: second })
  })

  test('from a node that another process has replaced is rejected, and from a restarted node accepted', async () => {
    const copy = { ...node, url: 'http://127.0.0.1:3' }
    await sendHeartbeat(node, 'copied', { process: 'first' })
    await sendHeartbeat(copy, 'copied', { process: 'second' })
    const told = heartbeatOf(node, 'copied', { process: 'first', leaving: true })
    const refused = await signedPost('/internal/nodes/heartbeat', told)
    expect([refused.status, (await errorOf(refused)).message]).toEqual([
      409,
      expect.stringMatching(
        /Another node was started as 'node-1' after this one, with the same COPAL_NODE_SECRET/,
      ),
    ])
    const shown = (await fleet().snapshot()).nodes.find(({ id }) => id === 'node-1')
    expect(shown).toMatchObject({ url: copy.url, alive: true })
    await sendHeartbeat(copy, 'copied', { process: 'second' })
    await sendHeartbeat(copy, 'copied', { process: 'third' })
  })

  test('may omit its methods once they are registered, until its process changes', async () => {
    const { methods: _, ...renewed } = heartbeatOf(node, 'registered', { process: 'one' })
    const send = async (changes: object) => {
      const response = await signedPost('/internal/nodes/heartbeat', { ...renewed, ...changes })
      return (await response.json<HeartbeatResponse>()).registered
    }
    const offered = () => fleet().offeredMethods('registered')
    expect(await send({})).toBe(false)
    expect(await offered()).toBeNull()
    expect(await send({ methods: ['copal'] })).toBe(true)
    expect(await send({})).toBe(true)
    expect(await offered()).toEqual(['copal'])
    await runInDurableObject(fleet(), (_fleet, state) => state.abort('reset by a test')).catch(
      () => undefined,
    )
    expect(await send({})).toBe(true)
    expect(await offered()).toEqual(['copal'])
    expect(await send({ process: 'two' })).toBe(false)
    expect(await offered()).toBeNull()
    expect(await send({ process: 'two', methods: ['wanda'] })).toBe(true)
    expect(await offered()).toEqual(['wanda'])
  })

  test('of an idle node executes one database statement', async () => {
    await sendHeartbeat(node, 'idle')
    const statements: string[] = []
    const counted = new Proxy(env.DB, {
      get(binding, name) {
        if (name !== 'prepare') return Reflect.get(binding, name) as unknown
        return (text: string) => {
          statements.push(text)
          return binding.prepare(text)
        }
      },
    })
    const app = createApp()
    // Methods come with the first heartbeats of a process.
    const { methods: _, ...idle } = heartbeatOf(node, 'idle')
    const response = await signedPost('/internal/nodes/heartbeat', idle, {
      send: (request) => app.fetch(request, { ...env, DB: counted }, createExecutionContext()),
    })
    expect(response.status).toBe(200)
    expect(statements).toHaveLength(1)
  })

  test('that is malformed or not signed with the secret of its node is rejected', async () => {
    const unsigned = await signedPost('/internal/nodes/heartbeat', heartbeatOf(node, 'm'), {
      secret: 'another secret of the network',
    })
    expect(unsigned.status).toBe(401)
    expect(await errorOf(unsigned)).toMatchObject({ code: 'invalid_signature' })
    const malformed = await signedPost('/internal/nodes/heartbeat', {
      ...heartbeatOf(node, 'm'),
      url: 'ftp://x',
    })
    expect(malformed.status).toBe(400)
    expect(await errorOf(malformed)).toMatchObject({ param: 'url' })
  })
})

describe('receipts', () => {
  test('settle once, however often and in whatever batch they arrive, and end their leases', async () => {
    await sendHeartbeat(node, 'tiny')
    for (const requestId of ['request-1', 'request-2']) {
      await fleet().acquire({ model: 'tiny', requestId, domain: 'default', promptTokens: 1, exclude: [] })
    }
    const batch = (...receipts: ReturnType<typeof receiptOf>[]) =>
      signedPost('/internal/nodes/receipts', { nodeId: 'node-1', receipts })
    expect(await (await batch(receiptOf('request-1'))).json()).toEqual({ settled: 1 })
    expect((await fleet().snapshot()).nodes.find(({ id }) => id === 'node-1')?.leases).toBe(1)
    const again = await batch(receiptOf('request-1', { completionTokens: 99 }), receiptOf('request-2'))
    expect(await again.json()).toEqual({ settled: 1 })
    expect((await fleet().snapshot()).nodes.find(({ id }) => id === 'node-1')?.leases).toBe(0)
    expect(await (await batch()).json()).toEqual({ settled: 0 })
    const twice = await batch(receiptOf('request-3'), receiptOf('request-3', { completionTokens: 99 }))
    expect(await twice.json()).toEqual({ settled: 1 })
    expect(await sumUsage(db)).toMatchObject([
      { model: 'tiny', finishReason: 'stop', requests: 3, promptTokens: 30, completionTokens: 15 },
    ])
  })

  test('replace the estimate that the gateway made when the lease expired, once', async () => {
    const requestId = 'request-estimated'
    const model = 'estimated'
    const account = 'key_1'
    const estimate = receiptOf(requestId, { account, model, finishReason: 'error', completionTokens: 0 })
    expect(await insertReceipts(db, 'node-1', [estimate], 'estimate', 1)).toBe(1)
    const settle = async (receipt: ReturnType<typeof receiptOf>) => {
      const batch = { nodeId: 'node-2', receipts: [receipt] }
      return (await signedPost('/internal/nodes/receipts', batch)).json()
    }
    const measured = receiptOf(requestId, {
      model,
      domain: 'legal',
      maskVersion: 3,
      promptTokens: 11,
      completionTokens: 7,
      finishReason: 'length',
      queueMs: 2,
      timeToFirstTokenMs: 13,
      totalMs: 41,
      drift: { tokens: 4, nllMasked: 10, nllDense: 8 },
      scoring: 'scored',
    })
    expect(await settle(measured)).toEqual({ settled: 1 })
    const { drift, ...fields } = measured
    const stored = {
      ...fields,
      nodeId: 'node-2',
      driftTokens: drift?.tokens,
      nllMasked: 10,
      nllDense: 8,
      estimated: false,
      createdAt: expect.any(Number),
      // An old node, whose receipts name no account.
      keyId: account,
      errorCode: null,
      // The attestations of tests tell no conversation.
      conversation: null,
      namesWeights: false,
    }
    const rows = async () =>
      (await db.select().from(receiptTable)).filter((row) => row.requestId === requestId)
    expect(await rows()).toEqual([stored])
    expect((await rows())[0]?.createdAt).toBeGreaterThan(1)
    expect(await settle(receiptOf(requestId, { model }))).toEqual({ settled: 0 })
    expect(await insertReceipts(db, 'node-1', [estimate], 'estimate', 2)).toBe(0)
    expect(await rows()).toEqual([stored])
    // The totals no longer contain the estimate.
    const names = { model, domain: 'legal', maskVersion: 3 }
    expect((await sumUsage(db)).filter((row) => row.model === model)).toEqual([
      { ...names, tenant: null, finishReason: 'length', requests: 1, promptTokens: 11, completionTokens: 7 },
    ])
    expect(await sumDrift(db, { model })).toEqual([
      { ...names, requests: 1, tokens: 4, nllMasked: 10, nllDense: 8 },
    ])
  })

  test('name the code of an error; one that the gateway does not know is dropped, and the receipt settles', async () => {
    const model = 'error-codes'
    const codes = ['node_failed', 'from_a_later_version', 'x'.repeat(1_000), 7, undefined]
    const receipts = codes.map((errorCode, index) => ({
      ...receiptOf(`error-code-${index}`, { model, finishReason: 'error' }),
      errorCode,
    }))
    const estimate = receiptOf('error-code-0', { model, finishReason: 'error' })
    await insertReceipts(db, 'node-1', [estimate], 'estimate', 1)
    const response = await signedPost('/internal/nodes/receipts', { nodeId: 'node-1', receipts })
    expect(await response.json()).toEqual({ settled: codes.length })
    const rows = (await db.select().from(receiptTable)).filter((row) => row.model === model)
    expect(rows.map(({ errorCode }) => errorCode)).toEqual(['node_failed', null, null, null, null])
  })

  test('are deleted after their retention time, but still count in the totals', async () => {
    const model = 'kept'
    const receipts = Array.from({ length: 5 }, (_, index) => receiptOf(`kept-${index}`, { model }))
    const now = Date.now()
    await insertReceipts(db, 'node-1', receipts.slice(0, 3), 'node', now - 31 * DAY_MS)
    await insertReceipts(db, 'node-1', receipts.slice(3), 'node', now - 29 * DAY_MS)
    const stored = async () =>
      (await db.select().from(receiptTable)).filter((row) => row.model === model).length
    const deps = testDeps({ nowMs: () => now })
    await deleteOldReceipts({ ...deps, receiptDays: 0 })
    expect(await stored()).toBe(5)
    await deleteOldReceipts(deps)
    expect(await stored()).toBe(2)
    expect((await sumUsage(db)).filter((row) => row.model === model)).toMatchObject([{ requests: 5 }])
  })

  test('are stored completely for the largest batch', async () => {
    const receipts = Array.from({ length: 256 }, (_, index) =>
      receiptOf(`large-batch-${index}`, {
        model: 'large-batch',
        finishReason: index % 2 ? 'cancelled' : 'length',
        drift: { tokens: 4, nllMasked: 10, nllDense: 8 },
      }),
    )
    const response = await signedPost('/internal/nodes/receipts', { nodeId: 'node-1', receipts })
    expect(await response.json()).toEqual({ settled: 256 })
    const usage = (await sumUsage(db)).filter(({ model }) => model === 'large-batch')
    expect(usage.map(({ finishReason, requests }) => [finishReason, requests])).toEqual([
      ['cancelled', 128],
      ['length', 128],
    ])
  })

  test('without a signature settle nothing', async () => {
    const response = await signedPost(
      '/internal/nodes/receipts',
      { nodeId: 'x', receipts: [receiptOf('forged-request')] },
      { secret: 'no secret of ours at all' },
    )
    expect(response.status).toBe(401)
    expect(
      await env.DB.prepare("select * from receipts where request_id = 'forged-request'").first(),
    ).toBeNull()
  })
})

import { env } from 'cloudflare:workers'
import { runInDurableObject } from 'cloudflare:test'
import { beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import type { Reservation } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { sendHeartbeat, receiptOf, signedPost, until } from '../../support/requests/gateway-requests.ts'
import { ask, createLimitedKey } from '../../support/requests/limited-requests.ts'
import { startNode, type NodeDouble } from '../../support/doubles/node-double.ts'

const fleet = () => env.FLEET.get(env.FLEET.idFromName('fleet'))
let node: NodeDouble
beforeAll(async () => {
  node = await startNode('reset-limits-1', [{ kind: 'answer', body: '{"ok":1}' }])
})
beforeEach(() => sendHeartbeat(node, 'tiny'))

const idOf = (response: Response) => response.headers.get('x-request-id') ?? ''

/** Settles a request as its node would; the changes are stored 100 ms later. */
async function settle(response: Response, tokens: number): Promise<void> {
  const receipts = [receiptOf(idOf(response), { promptTokens: tokens, completionTokens: 0 })]
  await signedPost('/internal/nodes/receipts', { nodeId: node.id, receipts })
}

const reset = () =>
  runInDurableObject(fleet(), (_, state) => state.abort('reset by a test')).catch(() => undefined)

/** Waits until the stored reservation of a request is gone. */
async function isReturned(requestId: string): Promise<void> {
  const stored = () =>
    runInDurableObject(fleet(), (_, { storage }) => storage.get<Reservation>(`hold:${requestId}`))
  await until('its reservation to be gone', async () => {
    await fleet().saveCounts()
    return (await stored()) === undefined || undefined
  })
}

test('a request settled just before a reset is charged, and neither runs nor is reserved afterwards', async () => {
  const { key } = await createLimitedKey({ concurrent_requests: 1, tokens_per_month: 1_000 })
  const first = await ask(key)
  await fleet().saveCounts()
  await sendHeartbeat(node, 'tiny')
  await settle(first, 40)
  await reset()
  await isReturned(idOf(first))
  expect((await fleet().snapshot()).nodes).toMatchObject([{ id: node.id, leases: 0 }])
  expect((await ask(key, { max_tokens: 951 })).status).toBe(429)
  expect((await ask(key, { max_tokens: 950 })).status).toBe(200)
})

test('an attempt superseded just before a reset is neither reserved nor charged afterwards', async () => {
  const { key } = await createLimitedKey({ concurrent_requests: 1, tokens_per_month: 1_000 })
  const first = await ask(key)
  await fleet().saveCounts()
  const receipt = receiptOf(idOf(first), { promptTokens: 40 })
  const stored = { ...receipt, finishReason: 'superseded' } as const
  await insertReceipts(openDatabase(env.DB), node.id, [stored], 'node', Date.now())
  await reset()
  await isReturned(idOf(first))
  expect((await ask(key, { max_tokens: 991 })).status).toBe(429)
  expect((await ask(key, { max_tokens: 990 })).status).toBe(200)
})

test('changes that could not be stored are stored with the next ones', async () => {
  const { id, key } = await createLimitedKey({ tokens_per_month: 1_000 })
  const response = await ask(key)
  await fleet().saveCounts()
  await settle(response, 40)
  await runInDurableObject(fleet(), async (object, { storage }) => {
    const put = vi.spyOn(storage, 'put').mockRejectedValueOnce(new Error('the disk is full'))
    await expect(object.saveCounts()).rejects.toThrow('the disk is full')
    put.mockRestore()
    await object.saveCounts()
    expect(await storage.get(`account:key:${id}`)).toMatchObject({ spent: 40 })
  })
})

test('an alarm that could not be set is set by the next heartbeat', async () => {
  const another = env.FLEET.get(env.FLEET.idFromName('no-alarm'))
  await runInDurableObject(another, async (object, { storage }) => {
    const setAlarm = vi.spyOn(storage, 'setAlarm').mockRejectedValueOnce(new Error('the disk is full'))
    await expect(object.heartbeat(heartbeatOf(node, 'm'), 0)).rejects.toThrow('the disk is full')
    setAlarm.mockRestore()
    await object.heartbeat(heartbeatOf(node, 'm'), 0)
    expect(await storage.getAlarm()).not.toBeNull()
  })
})

import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import type { AccountRecord } from '../../../../gateway/src/fleet/ledger/ledger-records.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { insertReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'
import { createKey, receiptOf } from '../../support/requests/gateway-requests.ts'

const node = { id: 'node-1', url: 'http://127.0.0.1:9' }

/** A fleet with keys that have a limit of their rate, each with a receipt of 15 tokens from before it. */
async function limitedKeys(name: string, count: number) {
  const fleet = env.FLEET.get(env.FLEET.idFromName(name))
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  const ids: string[] = []
  for (let index = 0; index < count; index += 1) {
    const { id } = await createKey()
    ids.push(id)
    const receipt = receiptOf(`${name}-before-${index}`, { account: id })
    await insertReceipts(openDatabase(env.DB), node.id, [receipt], 'node', Date.now() - 10)
    const accounts = [{ kind: 'key' as const, name: id, limits: { requestsPerMinute: 9 } }]
    const requestId = `${name}-${index}`
    const limits = { requestId, accounts, maxTokens: 1 }
    await fleet.acquire({ model: 'm', requestId, domain: 'd', promptTokens: 1, exclude: [], limits })
  }
  await fleet.saveCounts()
  /** Returns how many of the keys were charged what they used before, as stored. */
  const charged = () =>
    runInDurableObject(fleet, async (_, { storage }) => {
      const stored = await storage.get<AccountRecord>(ids.map((id) => `account:key:${id}`))
      return [...stored.values()].filter(({ spent }) => spent === 15).length
    })
  return { fleet, charged }
}

/** Replaces reads of past usage, which are the batches of the database, until the test ends. */
function replaceReads(read: (call: number, batch: () => Promise<D1Result[]>) => Promise<D1Result[]>): void {
  const database = Object.getPrototypeOf(env.DB) as D1Database
  const batch = database.batch.bind(env.DB)
  let calls = 0
  const replaced = vi.spyOn(database, 'batch')
  replaced.mockImplementation((statements) => {
    calls += 1
    return read(calls, () => batch(statements))
  })
  onTestFinished(() => replaced.mockRestore())
}

test('an account whose past usage cannot be read does not hold up the others', async () => {
  const { fleet, charged } = await limitedKeys('unreadable', 5)
  const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => errors.mockRestore())
  replaceReads((call, batch) => (call <= 2 ? Promise.reject(new Error('too many rows')) : batch()))
  await runDurableObjectAlarm(fleet)
  await expect.poll(charged).toBe(3)
  await runDurableObjectAlarm(fleet)
  await expect.poll(charged).toBe(5)
})

test('an alarm reads no more past usage once the database is down', async () => {
  const { fleet } = await limitedKeys('down', 5)
  const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined)
  onTestFinished(() => errors.mockRestore())
  replaceReads(() => Promise.reject(new Error('the database is down')))
  await runDurableObjectAlarm(fleet)
  expect(errors).toHaveBeenCalledTimes(3)
})

test('the past usage of an account is stored while that of the next one is read', async () => {
  const { fleet, charged } = await limitedKeys('in-steps', 2)
  const released = Promise.withResolvers<void>()
  replaceReads(async (call, batch) => {
    if (call === 2) await released.promise
    return batch()
  })
  const alarm = runDurableObjectAlarm(fleet)
  try {
    await expect.poll(charged).toBe(1)
  } finally {
    released.resolve()
    await alarm
  }
  await expect.poll(charged).toBe(2)
})

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
  const accounts = () =>
    runInDurableObject(fleet, async (_, { storage }) => {
      const stored = await storage.get<AccountRecord>(ids.map((id) => `account:key:${id}`))
      return [...stored.values()]
    })
  /** Returns how many of the keys were charged what they used before, as stored. */
  const charged = async () => (await accounts()).filter(({ spent }) => spent === 15).length
  return { fleet, accounts, charged }
}

/** Replaces reads of past usage, which are the batches of the database, until the test ends. */
function replaceReads(
  read: (call: number, batch: () => Promise<D1Result[]>, statements: number) => Promise<D1Result[]>,
): void {
  const database = Object.getPrototypeOf(env.DB) as D1Database
  const batch = database.batch.bind(env.DB)
  let calls = 0
  const replaced = vi.spyOn(database, 'batch')
  replaced.mockImplementation((statements) => {
    calls += 1
    return read(calls, () => batch(statements), statements.length)
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

/** Statements of the batch that reads past usage. */
const READ_STATEMENTS = 3

test.each(['read', 'refund'] as const)(
  'a refund beside a read of past usage is exact, although the reply of the %s comes last',
  async (late) => {
    const name = `refunded beside a read, late ${late}`
    const { fleet, accounts } = await limitedKeys(name, 1)
    let state = 'apart'
    // Polled, because what one object resolves another one cannot await.
    const until = async (...states: string[]) => {
      while (!states.includes(state)) await new Promise((resolve) => setTimeout(resolve, 20))
    }
    replaceReads(async (_, batch, statements) => {
      const isLate = (statements === READ_STATEMENTS) === (late === 'read')
      if (!isLate) await until('begun', 'ended')
      const results = await batch()
      if (isLate) {
        if (state === 'apart') state = 'begun'
        await until('ended')
      } else setTimeout(() => (state = 'ended'), 100)
      return results
    })
    // Its receipt is that from before the limit.
    await fleet.fail({ requestId: `${name}-before-0`, nodeId: node.id, how: 'failed' })
    if (late === 'refund') await until('begun')
    await runDurableObjectAlarm(fleet)
    await until('ended')
    await new Promise((resolve) => setTimeout(resolve, 200))
    await expect
      .poll(
        async () => {
          await runDurableObjectAlarm(fleet)
          await fleet.saveCounts()
          return accounts()
        },
        { timeout: 5_000, interval: 300 },
      )
      .toMatchObject([{ spent: 0, unreadBeforeMs: 0 }])
  },
)

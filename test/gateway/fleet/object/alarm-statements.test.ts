import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { findSettledReceipts } from '../../../../gateway/src/storage/db/queries/receipt-queries.ts'
import { heartbeatOf } from '../../../support/doubles/heartbeat.ts'

/** The statements that reading the past usage of one account takes. */
const READ_STATEMENTS = 3

/** Counts the statements of batches until the test ends. */
function countStatements(): { statements: number } {
  const database = Object.getPrototypeOf(env.DB) as D1Database
  const batch = database.batch.bind(env.DB)
  const counted = { statements: 0 }
  const spy = vi.spyOn(database, 'batch')
  onTestFinished(() => spy.mockRestore())
  spy.mockImplementation((list) => {
    counted.statements += list.length
    return batch(list)
  })
  return counted
}

test('the failures of many requests at once are stored together', async () => {
  const fleet = env.FLEET.get(env.FLEET.idFromName('together'))
  const ids = Array.from({ length: 100 }, (_, index) => `together-${index}`)
  const node = { id: 'node-1', url: 'http://127.0.0.1:9' }
  await fleet.heartbeat(heartbeatOf(node, 'm'), 0)
  const counted = countStatements()
  await runInDurableObject(fleet, async (object) => {
    const asked = { model: 'm', domain: 'd', promptTokens: 1, exclude: [] }
    for (const requestId of ids) await object.acquire({ ...asked, requestId })
    for (const requestId of ids) object.fail({ requestId, nodeId: node.id, how: 'broke' })
  })
  const stored = () => findSettledReceipts(openDatabase(env.DB), ids)
  await expect.poll(async () => (await stored()).length).toBe(100)
  expect((await stored()).every(({ tokens, estimated }) => tokens === 0 && estimated)).toBe(true)
  expect(counted.statements).toBeLessThan(100)
})

test('an alarm that stores failed attempts has enough statements left to read the past usage of a hundred accounts', async () => {
  const fleet = env.FLEET.get(env.FLEET.idFromName('statements'))
  const counts = { promptTokens: 1, completionTokens: 0, acquiredAtMs: 0, expiresAtMs: 0, progressAtMs: 0 }
  const lease = { nodeId: 'node-1', model: 'm', domain: 'd', maskVersion: 0, named: true, ...counts }
  const attempts = Array.from({ length: 100 }, (_, index) => {
    const requestId = `statements-${index}`
    return [`failed:${requestId}`, { outcome: 'undelivered', atMs: 0, lease: { ...lease, requestId } }]
  })
  await runInDurableObject(fleet, async (_, { storage }) => {
    await storage.put(Object.fromEntries(attempts))
    await storage.setAlarm(Date.now() + 60_000)
  })
  await evictDurableObject(fleet)
  const counted = countStatements()
  await runDurableObjectAlarm(fleet)
  expect(counted.statements).toBeGreaterThan(0)
  // All of them are stored together.
  expect(counted.statements).toBeLessThan(50)
  expect(counted.statements + 100 * READ_STATEMENTS).toBeLessThan(1_000)
})

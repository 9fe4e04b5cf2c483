import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, onTestFinished, test, vi } from 'vitest'

/** The statements that reading the past usage of one account takes. */
const READ_STATEMENTS = 3

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
  const database = Object.getPrototypeOf(env.DB) as D1Database
  const batch = database.batch.bind(env.DB)
  let statements = 0
  const counted = vi.spyOn(database, 'batch')
  onTestFinished(() => counted.mockRestore())
  counted.mockImplementation((list) => {
    statements += list.length
    return batch(list)
  })
  await runDurableObjectAlarm(fleet)
  expect(statements).toBeGreaterThan(0)
  expect(statements + 100 * READ_STATEMENTS).toBeLessThan(1_000)
})

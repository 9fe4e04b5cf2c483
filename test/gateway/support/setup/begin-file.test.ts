import { env } from 'cloudflare:workers'
import {
  createExecutionContext,
  createMessageBatch,
  evictDurableObject,
  getQueueResult,
  runInDurableObject,
} from 'cloudflare:test'
import { expect, test } from 'vitest'
import { createKey, get } from '../requests/gateway-requests.ts'
import { storedTexts } from '../state/reservoir-state.ts'
import { beginFile } from './begin-file.ts'

/** Returns the rows of all tables. */
async function countRows(): Promise<Record<string, unknown>> {
  const { results } = await env.DB.prepare(
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_cf%' ESCAPE '\\'",
  ).all<{ name: string }>()
  const counts = results.map(({ name }) => `(SELECT count(*) FROM "${name}") AS "${name}"`)
  return (await env.DB.prepare(`SELECT ${counts.join(', ')}`).first()) ?? {}
}

test('a file begins without the rows and objects of the file before', async () => {
  const rows = await countRows()
  await createKey()
  await env.ARTIFACTS.put('left', 'behind')
  expect(await countRows()).not.toEqual(rows)
  await beginFile()
  expect(await countRows()).toEqual(rows)
  expect((await env.ARTIFACTS.list()).objects).toEqual([])
})

test('a file begins without the data, alarms and memory of Durable Objects, also of one that was evicted', async () => {
  const objects = ['running', 'evicted'].map((name) => env.RESERVOIR.get(env.RESERVOIR.idFromName(name)))
  const [, evicted] = objects
  for (const object of objects) {
    await runInDurableObject(object, async (_, { storage }) => {
      await storage.put('left', 'behind')
      await storage.setAlarm(Date.now() + 600_000)
    })
  }
  if (evicted) await evictDurableObject(evicted)
  const before = await runInDurableObject(
    env.FLEET.get(env.FLEET.idFromName('fleet')),
    (fleet) => new WeakRef(fleet),
  )
  await beginFile()
  for (const name of ['running', 'evicted']) {
    const object = env.RESERVOIR.get(env.RESERVOIR.idFromName(name))
    const left = await runInDurableObject(object, async (_, { storage }) => [
      await storage.get('left'),
      await storage.getAlarm(),
    ])
    expect(left).toEqual([undefined, null])
  }
  const isSame = await runInDurableObject(
    env.FLEET.get(env.FLEET.idFromName('fleet')),
    (fleet) => fleet === before.deref(),
  )
  expect(isSame).toBe(false)
})

test('a file begins with modules that remember nothing: a key of the file before is unknown', async () => {
  const { key } = await createKey()
  expect((await get('/v1/models', key)).status).toBe(200)
  await beginFile()
  expect((await get('/v1/models', key)).status).toBe(401)
})

test('a file begins without the messages of the file before', async () => {
  const sample = (name: string, timestamp: Date) => ({
    id: name,
    timestamp,
    attempts: 1,
    body: { requestId: `req_${name}`, keyId: 'key', model: 'tiny', domain: 'messages', text: `${name} text` },
  })
  const before = new Date()
  await scheduler.wait(2)
  await beginFile()
  const { default: worker } = await import('../../../../gateway/src/index.ts')
  const batch = createMessageBatch('copal-samples', [
    sample('old', before),
    sample('new', new Date(Date.now() + 1_000)),
  ])
  const ctx = createExecutionContext()
  await worker.queue(batch, env, ctx)
  expect((await getQueueResult(batch, ctx)).explicitAcks.toSorted()).toEqual(['new', 'old'])
  expect(await storedTexts('messages')).toEqual(['new text'])
})

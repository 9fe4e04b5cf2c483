import { env } from 'cloudflare:workers'
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { expect, test } from 'vitest'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { publishCounts, storedTexts } from '../../support/state/reservoir-state.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const open = (name: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(name))
const alarmOf = (reservoir: ReturnType<typeof open>) =>
  runInDurableObject(reservoir, (_instance, state) => state.storage.getAlarm())
const offers = (count: number, atMs: number) =>
  Array.from({ length: count }, (_, index) => offeredSample(`text ${index} ${atMs}`, { atMs }))

test('texts are deleted by alarm after 30 days', async () => {
  const nowMs = Date.now()
  const reservoir = open('alarm')
  await reservoir.offer(offers(10, nowMs))
  await reservoir.offer(offers(10, nowMs - 29 * DAY_MS))
  await publishCounts('alarm')
  expect(await alarmOf(reservoir)).toBe(nowMs + DAY_MS)
  // Makes the older texts two days older.
  await runInDurableObject(reservoir, (_instance, state) => {
    state.storage.sql.exec('UPDATE sources SET at_ms = at_ms - ? WHERE at_ms < ?', 2 * DAY_MS, nowMs)
  })
  expect(await runDurableObjectAlarm(reservoir)).toBe(true)
  const left = await storedTexts('alarm')
  expect(left.length).toBe(10)
  expect(left.every((text) => text.endsWith(String(nowMs)))).toBe(true)
  await publishCounts('alarm')
  expect(await alarmOf(reservoir)).toBe(nowMs + 30 * DAY_MS)
})

test('texts older than the time to live are not accepted', async () => {
  const reservoir = open('stale')
  await reservoir.offer(offers(10, Date.now() - 31 * DAY_MS))
  expect(await reservoir.stats()).toMatchObject({ samples: 0, holdoutSamples: 0, seen: 10 })
})

test('an update takes texts of the object, and what it leaves is counted by model', async () => {
  const reservoir = open('taken')
  await reservoir.offer(offers(40, Date.now()))
  const { samples, characters } = await reservoir.stats()
  const request = { model: 'm', updateId: 'u', maxBytes: characters / 2 }
  const taken = await reservoir.take(request)
  expect(taken[0]?.sources).toEqual([
    expect.objectContaining({ keyId: 'key', tenant: 'tenant', consentVersion: 1 }),
  ])
  expect(await reservoir.stats('m')).toMatchObject({ samples, newSamples: samples - taken.length })
  await reservoir.release('m', ['u'])
  expect(await reservoir.stats('m')).toMatchObject({ samples, newSamples: samples })
})

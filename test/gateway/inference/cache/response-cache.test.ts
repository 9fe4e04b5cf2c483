import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { describe, expect, test } from 'vitest'
import { CacheStore } from '../../../../gateway/src/inference/cache/cache-store.ts'
import type { CachedResponse } from '../../../../gateway/src/contracts/response-cache-object.ts'

const open = (tenant: string) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant))
const answerOf = (text: string): CachedResponse => ({
  body: new Uint8Array(new TextEncoder().encode(text)),
  contentType: 'application/json',
  maskVersion: 3,
  nodeId: 'node-1',
})
const textOf = (found: { body: Uint8Array } | undefined) => found && new TextDecoder().decode(found.body)

const foundText = ({ found }: { found?: { body: Uint8Array } | undefined }) => textOf(found)

/** Runs `work` on a store of its own, in a real object's SQLite. */
function withStore(
  name: string,
  bounds: { bytes: number; answers: number; answerBytes: number },
  work: (store: CacheStore, reopen: () => CacheStore) => void,
): Promise<void> {
  return runInDurableObject(open(name), (_instance, { storage }) =>
    work(new CacheStore(storage, bounds), () => new CacheStore(storage, bounds)),
  )
}

describe('a store', () => {
  const bounds = { bytes: 5_000, answers: 4, answerBytes: 2_000 }

  test('gives back what it was given, until its time is over or it is older than asked for', async () => {
    await withStore('store-times', bounds, (store) => {
      store.keep('a', answerOf('{"a":1}'), 1_000, 10_000)
      expect(store.find('a', 60_000, 10_400)).toEqual({ ...answerOf('{"a":1}'), ageMs: 400 })
      expect(store.find('b', 60_000, 10_400)).toBeUndefined()
      expect(store.find('a', 300, 10_400)).toBeUndefined()
      expect(store.find('a', 60_000, 11_000)).toBeUndefined()
      expect(store.nextExpiryMs()).toBe(11_000)
      store.expire(11_000)
      expect([store.answers, store.bytes, store.nextExpiryMs()]).toEqual([0, 0, undefined])
    })
  })

  test('keeps the newest answer of a key, and counts it once', async () => {
    await withStore('store-again', bounds, (store, reopen) => {
      store.keep('a', answerOf('old'), 1_000, 0)
      store.keep('a', answerOf('newer'), 1_000, 5)
      expect(textOf(store.find('a', 1_000, 6))).toBe('newer')
      const { answers, bytes } = reopen()
      expect([store.answers, store.bytes]).toEqual([1, bytes])
      expect(answers).toBe(1)
    })
  })

  test('never holds more answers or bytes than it may; the oldest go first', async () => {
    await withStore('store-bounds', bounds, (store, reopen) => {
      for (let index = 0; index < 10; index += 1) {
        store.keep(`small-${index}`, answerOf('x'), 60_000, index)
        expect(store.answers).toBeLessThanOrEqual(bounds.answers)
      }
      expect([6, 7, 8, 9].map((index) => textOf(store.find(`small-${index}`, 60_000, 20)))).toEqual(
        Array(4).fill('x'),
      )
      for (let index = 0; index < 10; index += 1) {
        store.keep(`large-${index}`, answerOf('y'.repeat(1_500)), 60_000, 100 + index)
        expect(store.bytes).toBeLessThanOrEqual(bounds.bytes)
      }
      expect(textOf(store.find('large-9', 60_000, 200))).toHaveLength(1_500)
      expect(store.find('small-9', 60_000, 200)).toBeUndefined()
      const again = reopen()
      expect([again.answers, again.bytes]).toEqual([store.answers, store.bytes])
    })
  })

  test('does not keep an answer that is too large, and forgets what the key had', async () => {
    await withStore('store-large', bounds, (store) => {
      store.keep('a', answerOf('x'), 60_000, 0)
      store.keep('a', answerOf('y'.repeat(2_001)), 60_000, 1)
      expect(store.find('a', 60_000, 2)).toBeUndefined()
      expect([store.answers, store.bytes]).toEqual([0, 0])
    })
  })
})

describe('a tenant’s cache', () => {
  test('is its own: another finds nothing of it, nor counts it', async () => {
    await open('one').keep('k', answerOf('of one'), 60_000)
    expect(await open('other').look('k', 60_000, 'a')).toEqual({ makes: true })
    expect(foundText(await open('one').look('k', 60_000, 'a'))).toBe('of one')
    expect(await open('other').stats()).toEqual({ answers: 0, bytes: 0, hits: 0, misses: 1 })
    expect(await open('one').stats()).toMatchObject({ answers: 1, hits: 1, misses: 0 })
  })

  test('has an answer for who follows one that was made since the look-up', async () => {
    const cache = open('landed')
    expect(await cache.look('k', 60_000, 'a')).toEqual({ makes: true })
    expect(await cache.look('k', 60_000, 'b')).toEqual({ makes: false })
    await cache.keep('k', answerOf('landed'), 60_000)
    expect(textOf(await cache.follow('k', 60_000, 'b'))).toBe('landed')
    expect(await cache.stats()).toMatchObject({ hits: 1, misses: 1 })
  })

  test('outlives its object, with what it counted', async () => {
    const cache = () => open('evicted')
    await cache().keep('k', answerOf('kept'), 60_000)
    await cache().look('k', 60_000, 'a')
    await cache().look('none', 60_000, 'b')
    await runInDurableObject(cache(), async (_instance, { storage }) => {
      while ((await storage.get('counts')) === undefined)
        await new Promise((resolve) => setTimeout(resolve, 100))
    })
    await evictDurableObject(cache())
    expect(foundText(await cache().look('k', 60_000, 'c'))).toBe('kept')
    expect(await cache().stats()).toMatchObject({ answers: 1, hits: 2, misses: 1 })
  })

  test('is emptied by alarm when the time of its answers is over', async () => {
    const cache = open('alarm')
    await cache.keep('long', answerOf('x'), 3_600_000)
    const first = await runInDurableObject(cache, (_instance, { storage }) => storage.getAlarm())
    await cache.keep('short', answerOf('x'), 1_000)
    const sooner = await runInDurableObject(cache, (_instance, { storage }) => storage.getAlarm())
    expect(sooner).toBeLessThan(first ?? 0)
    await runInDurableObject(cache, (_instance, { storage }) => {
      storage.sql.exec("UPDATE answers SET expires_ms = 1 WHERE key = 'short'")
    })
    expect(await runDurableObjectAlarm(cache)).toBe(true)
    const keys = await runInDurableObject(cache, (_instance, { storage }) =>
      storage.sql.exec<{ key: string }>('SELECT key FROM answers').toArray(),
    )
    expect(keys).toEqual([{ key: 'long' }])
    expect(await cache.clear()).toBe(1)
    expect(await cache.stats()).toMatchObject({ answers: 0, bytes: 0 })
  })
})

import { env } from 'cloudflare:workers'
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { describe, expect, test } from 'vitest'
import { CacheStore, type CacheBounds } from '../../../../gateway/src/inference/cache/cache-store.ts'
import type { CachedResponse } from '../../../../gateway/src/contracts/response-cache-object.ts'

const open = (tenant: string) => env.RESPONSE_CACHE.get(env.RESPONSE_CACHE.idFromName(tenant))
const cachedResponse = (text: string): CachedResponse => ({
  body: new Uint8Array(new TextEncoder().encode(text)),
  contentType: 'application/json',
  maskVersion: 3,
  nodeId: 'node-1',
})
const textOf = (found: { body: Uint8Array } | undefined) => found && new TextDecoder().decode(found.body)

const foundText = ({ found }: { found?: { body: Uint8Array } | undefined }) => textOf(found)

/** Runs `work` on a new store in the SQLite of a real Durable Object. */
function withStore(
  name: string,
  bounds: CacheBounds,
  work: (store: CacheStore, reopen: () => CacheStore) => void,
): Promise<void> {
  return runInDurableObject(open(name), (_instance, { storage }) =>
    work(new CacheStore(storage, bounds), () => new CacheStore(storage, bounds)),
  )
}

describe('a store', () => {
  const bounds = { bytes: 5_000, responses: 4, responseBytes: 2_000 }

  test('returns a stored response until it expires or is older than the requested age', async () => {
    await withStore('store-times', bounds, (store) => {
      store.store('a', cachedResponse('{"a":1}'), 1_000, 10_000)
      expect(store.find('a', 60_000, 10_400)).toEqual({ ...cachedResponse('{"a":1}'), ageMs: 400 })
      expect(store.find('b', 60_000, 10_400)).toBeUndefined()
      expect(store.find('a', 300, 10_400)).toBeUndefined()
      expect(store.find('a', 60_000, 11_000)).toBeUndefined()
      expect(store.nextExpiryMs()).toBe(11_000)
      store.expire(11_000)
      expect([store.responses, store.bytes, store.nextExpiryMs()]).toEqual([0, 0, undefined])
    })
  })

  test('keeps the newest response of a key, and counts it once', async () => {
    await withStore('store-again', bounds, (store, reopen) => {
      store.store('a', cachedResponse('old'), 1_000, 0)
      store.store('a', cachedResponse('newer'), 1_000, 5)
      expect(textOf(store.find('a', 1_000, 6))).toBe('newer')
      const { responses, bytes } = reopen()
      expect([store.responses, store.bytes]).toEqual([1, bytes])
      expect(responses).toBe(1)
    })
  })

  test('never exceeds its bounds on responses and bytes; the oldest responses are deleted first', async () => {
    await withStore('store-bounds', bounds, (store, reopen) => {
      for (let index = 0; index < 10; index += 1) {
        store.store(`small-${index}`, cachedResponse('x'), 60_000, index)
        expect(store.responses).toBeLessThanOrEqual(bounds.responses)
      }
      expect([6, 7, 8, 9].map((index) => textOf(store.find(`small-${index}`, 60_000, 20)))).toEqual(
        Array(4).fill('x'),
      )
      for (let index = 0; index < 10; index += 1) {
        store.store(`large-${index}`, cachedResponse('y'.repeat(1_500)), 60_000, 100 + index)
        expect(store.bytes).toBeLessThanOrEqual(bounds.bytes)
      }
      expect(textOf(store.find('large-9', 60_000, 200))).toHaveLength(1_500)
      expect(store.find('small-9', 60_000, 200)).toBeUndefined()
      const again = reopen()
      expect([again.responses, again.bytes]).toEqual([store.responses, store.bytes])
    })
  })

  test('does not store a response that is too large, and deletes the previous one of its key', async () => {
    await withStore('store-large', bounds, (store) => {
      store.store('a', cachedResponse('x'), 60_000, 0)
      store.store('a', cachedResponse('y'.repeat(2_001)), 60_000, 1)
      expect(store.find('a', 60_000, 2)).toBeUndefined()
      expect([store.responses, store.bytes]).toEqual([0, 0])
    })
  })
})

describe('a tenant’s cache', () => {
  test('is separate: look-ups in another tenant’s cache neither find nor count its responses', async () => {
    await open('one').store('k', cachedResponse('of one'), 60_000)
    expect(await open('other').lookUp('k', 60_000, 'a')).toEqual({ leads: true })
    expect(foundText(await open('one').lookUp('k', 60_000, 'a'))).toBe('of one')
    expect(await open('other').stats()).toEqual({ answers: 0, bytes: 0, hits: 0, misses: 1 })
    expect(await open('one').stats()).toMatchObject({ answers: 1, hits: 1, misses: 0 })
  })

  test('serves a follower a response that was stored after the look-up', async () => {
    const cache = open('landed')
    expect(await cache.lookUp('k', 60_000, 'a')).toEqual({ leads: true })
    expect(await cache.lookUp('k', 60_000, 'b')).toEqual({ leads: false })
    await cache.store('k', cachedResponse('landed'), 60_000)
    expect(textOf(await cache.awaitLeader('k', 60_000, 'b'))).toBe('landed')
    expect(await cache.stats()).toMatchObject({ hits: 1, misses: 1 })
  })

  test('survives the eviction of its object, with its counts', async () => {
    const cache = () => open('evicted')
    await cache().store('k', cachedResponse('kept'), 60_000)
    await cache().lookUp('k', 60_000, 'a')
    await cache().lookUp('none', 60_000, 'b')
    await runInDurableObject(cache(), async (_instance, { storage }) => {
      while ((await storage.get('counts')) === undefined)
        await new Promise((resolve) => setTimeout(resolve, 100))
    })
    await evictDurableObject(cache())
    expect(foundText(await cache().lookUp('k', 60_000, 'c'))).toBe('kept')
    expect(await cache().stats()).toMatchObject({ answers: 1, hits: 2, misses: 1 })
  })

  test('deletes expired responses by alarm', async () => {
    const cache = open('alarm')
    await cache.store('long', cachedResponse('x'), 3_600_000)
    const first = await runInDurableObject(cache, (_instance, { storage }) => storage.getAlarm())
    await cache.store('short', cachedResponse('x'), 1_000)
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

import { expect, test } from 'vitest'
import { textHash } from '../../../../gateway/src/adaptation/sampling/text-hash.ts'
import type { ReservoirStore } from '../../../../gateway/src/adaptation/sampling/reservoir-store.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

const pooled = (count: number, prefix = 'text') =>
  Array.from({ length: count }, (_, index) =>
    offeredSample(`${prefix} ${index}`.padEnd(20), { side: 'pool', atMs: 100 }),
  )
const take = (store: ReservoirStore, updateId: string, maxBytes = Infinity, model = 'm') =>
  store.take({ model, updateId, maxBytes }).map(({ text }) => text)

test('an update takes texts once: the same update again gets the same texts, another update of the model only new ones', async () => {
  await withStore('takes', async (open) => {
    const store = open()
    await store.offer(pooled(8))
    const all = poolOf(store)
    const first = take(store, 'first', 60)
    expect(first).toEqual(all.slice(0, 3))
    await store.offer(pooled(2, 'later'))
    expect(take(store, 'first', 60)).toEqual(first)
    const second = take(store, 'second')
    expect(second).toHaveLength(7)
    expect(second.filter((text) => first.includes(text))).toEqual([])
    expect(take(store, 'third')).toEqual([])
    expect(take(store, 'other', Infinity, 'another model')).toHaveLength(10)
  })
})

test('texts that an update did not count can be taken again, and those of other updates stay taken', async () => {
  await withStore('released', async (open) => {
    const store = open()
    await store.offer(pooled(6))
    const [kept, released] = [take(store, 'kept', 60), take(store, 'released')]
    store.release('m', ['released'])
    expect(take(store, 'next')).toEqual(released)
    expect(take(store, 'kept')).toEqual(kept)
  })
})

test('the counts tell how many texts a model has not taken', async () => {
  await withStore('counts', async (open) => {
    const store = open()
    await store.offer(pooled(6))
    take(store, 'u', 60)
    const size = { samples: 6, characters: 120 }
    expect(store.stats('m')).toMatchObject({ ...size, newSamples: 3, newCharacters: 60 })
    expect(store.stats('another model')).toMatchObject({ ...size, newSamples: 6, newCharacters: 120 })
    expect(store.stats()).toMatchObject({ ...size, newSamples: 6, newCharacters: 120 })
  })
})

test('a text that was taken is not new when it is offered again after it was deleted', async () => {
  await withStore('taken again', async (open) => {
    const store = open()
    await store.offer(pooled(4))
    take(store, 'u')
    store.delete()
    expect(store.stats('m')).toMatchObject({ samples: 0 })
    await store.offer(pooled(4))
    expect(store.stats('m')).toMatchObject({ samples: 4, newSamples: 0 })
    expect(take(store, 'next')).toEqual([])
  })
})

test('texts of batches from before the marks are marked by their hashes, whether they are stored or not', async () => {
  await withStore('marked', async (open) => {
    const store = open()
    const [stored, unstored] = [pooled(3), pooled(1, 'unstored')]
    await store.offer(stored)
    const hashes = await Promise.all([...stored.slice(0, 1), ...unstored].map(({ text }) => textHash(text)))
    store.markTaken({ model: 'm', updateId: 'old', hashes })
    expect(store.stats('m')).toMatchObject({ samples: 3, newSamples: 2 })
    await store.offer(unstored)
    expect(store.stats('m')).toMatchObject({ samples: 4, newSamples: 2 })
    expect(holdoutOf(store)).toEqual([])
  })
})

test('taken texts make room for new ones in a full reservoir', async () => {
  await withStore('room', async (open) => {
    const store = open()
    await store.offer(pooled(500))
    expect(take(store, 'first')).toHaveLength(10)
    await store.offer(pooled(20, 'later'))
    expect(store.stats('m')).toMatchObject({ samples: 10, newSamples: 10 })
    expect(take(store, 'second').every((text) => text.startsWith('later'))).toBe(true)
  })
})

test('an update takes the beginning of a long text of a key with few requests, the same when it takes again', async () => {
  await withStore('part', async (open) => {
    const store = open({ pool: { texts: 500, characters: 1e6 }, holdout: { texts: 500, characters: 1e6 } })
    const words = (name: string, count: number) =>
      Array.from({ length: count }, (_, word) => `${name}${word * 7919}`).join(' ')
    const ordinary = Array.from({ length: 240 }, (_, index) => ({
      ...offeredSample(words(`${index}w`, 40), { side: 'pool', atMs: 100 }),
      keyId: `key ${index % 12}`,
    }))
    const long = offeredSample(words('long', 3_000), { side: 'pool', atMs: 100, keyId: 'long' })
    await store.offer([...ordinary, long])
    const request = { model: 'm', updateId: 'u', maxBytes: 20_000 }
    const taken = store.take(request)
    const parts = taken.filter(({ sources }) => sources[0]?.keyId === 'long').map(({ text }) => text)
    expect(parts).toHaveLength(1)
    expect(parts[0]?.length).toBeLessThan(700)
    expect(parts[0]?.split(' ').every((word) => long.text.split(' ').includes(word))).toBe(true)
    expect(store.take(request)).toEqual(taken)
    expect(store.available({ ...request, model: 'another' })).toBe(
      taken.reduce((sum, { text }) => sum + text.length, 0),
    )
    // The rest of the piece is taken too.
    expect(
      store
        .take({ ...request, updateId: 'next', maxBytes: 1e6 })
        .some(({ text }) => text.startsWith(parts[0] ?? '')),
    ).toBe(false)
    store.release('m', ['u', 'next'])
    expect(
      store
        .take({ ...request, updateId: 'all', maxBytes: Infinity })
        .map(({ text }) => text)
        .join(' '),
    ).toContain(long.text.slice(0, 4_000))
  })
})

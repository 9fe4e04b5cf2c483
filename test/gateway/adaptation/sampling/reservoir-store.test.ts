import { describe, expect, test } from 'vitest'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import type { OfferedSample } from '../../../../gateway/src/contracts/reservoir-object.ts'
import { placeSample } from '../../../../gateway/src/adaptation/sampling/sample-placement.ts'
import { holdoutOf, poolOf, SMALL_RESERVOIR, withStore } from '../../support/state/reservoir-state.ts'

const offer = (text: string, changes: Partial<OfferedSample> = {}) =>
  offeredSample(text, { atMs: 100, ...changes })
const numbered = (count: number, prefix = 'text') =>
  Array.from({ length: count }, (_, index) => `${prefix} ${index}`)

describe('the pool', () => {
  test('is a uniform sample: every text of a stream is kept equally often', async () => {
    const texts = numbered(60)
    const pool = (
      await Promise.all(texts.map(async (text) => ({ text, place: await placeSample('', { text }) })))
    )
      .filter(({ place }) => place.side === 'pool')
      .map(({ text }) => text)
    const runs = 300
    const kept = new Map(pool.map((text) => [text, 0]))
    for (let run = 0; run < runs; run++) {
      await withStore('uniform', async (open) => {
        const store = open({ seed: `seed ${run}` })
        await store.offer(texts.map((text) => offer(text)))
        for (const text of poolOf(store, Infinity)) kept.set(text, (kept.get(text) ?? 0) + 1)
      })
    }
    const expected = (runs * SMALL_RESERVOIR.pool.texts) / pool.length
    expect([...kept.values()].reduce((sum, count) => sum + count, 0)).toBe(runs * SMALL_RESERVOIR.pool.texts)
    const chiSquare = [...kept.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
    // Mean and spread of chi-square with pool − 1 degrees of freedom, corrected for sampling without replacement.
    expect(chiSquare).toBeLessThan(pool.length + 4 * Math.sqrt(2 * pool.length))
    // The position does not matter: the first third of the stream is kept as often as the last.
    const third = Math.floor(pool.length / 3)
    const total = (part: string[]) => part.reduce((sum, text) => sum + (kept.get(text) ?? 0), 0)
    expect(Math.abs(total(pool.slice(0, third)) - total(pool.slice(-third)))).toBeLessThan(
      5 * Math.sqrt(2 * third * expected),
    )
  })

  test('stays within its bounds on texts and on characters', async () => {
    await withStore('bounds', async (open) => {
      const store = open({ pool: { texts: 10, characters: 500 }, holdout: { texts: 5, characters: 300 } })
      for (const text of numbered(300)) {
        await store.offer([offer(text + 'x'.repeat(text.length * 7))])
        const stats = store.stats()
        expect(stats.samples).toBeLessThanOrEqual(10)
        expect(stats.characters).toBeLessThanOrEqual(500)
        expect(stats.holdoutSamples).toBeLessThanOrEqual(5)
        expect(stats.holdoutCharacters).toBeLessThanOrEqual(300)
      }
      expect(store.stats()).toMatchObject({ seen: 300, lastSampleAtMs: 100 })
      expect(store.stats().samples).toBeGreaterThan(4)
    })
  })

  test('does not depend on order, on batches or on messages that are delivered twice', async () => {
    const texts = numbered(100)
    const forwards = await withStore('order', async (open) => {
      const store = open()
      await store.offer(texts.map((text) => offer(text)))
      return { pool: poolOf(store, Infinity), holdout: holdoutOf(store), seen: store.stats().seen }
    })
    const backwards = await withStore('order', async (open) => {
      const store = open()
      for (const text of texts.toReversed()) await store.offer([offer(text), offer(text)])
      await store.offer(texts.map((text) => offer(text)))
      return { pool: poolOf(store, Infinity), holdout: holdoutOf(store), seen: store.stats().seen }
    })
    expect(backwards).toEqual(forwards)
    expect(forwards.seen).toBe(100)
  })

  test('contains no text twice, although every conversation with it counts as seen', async () => {
    await withStore('duplicates', async (open) => {
      const store = open()
      for (let request = 0; request < 5; request++)
        await store.offer([offer('the same', { requestId: `r${request}` })])
      const { samples, holdoutSamples, seen } = store.stats()
      expect([samples + holdoutSamples, seen]).toEqual([1, 5])
    })
  })

  test('is returned in a fixed order until the maximum of characters', async () => {
    await withStore('snapshot', async (open) => {
      const store = open()
      await store.offer(numbered(30).map((text) => offer(text)))
      const all = poolOf(store, Infinity)
      expect(all).toHaveLength(10)
      expect(poolOf(store, Infinity)).toEqual(all)
      expect(poolOf(store, 20)).toEqual(all.slice(0, 3))
    })
  })

  test('survives the object: a new instance on the same storage continues with the same seed', async () => {
    await withStore('restart', async (open) => {
      const texts = numbered(100)
      await open().offer(texts.slice(0, 50).map((text) => offer(text)))
      const later = open({ seed: 'another' })
      await later.offer(texts.slice(50).map((text) => offer(text)))
      const lots = await Promise.all(
        texts.map(async (text) => ({ text, place: await placeSample('seed', { text }) })),
      )
      const lowest = lots
        .filter(({ place }) => place.side === 'pool')
        .sort((a, b) => a.place.priority - b.place.priority)
        .slice(0, 10)
      expect(poolOf(later, Infinity)).toEqual(lowest.map(({ text }) => text))
    })
  })
})

describe('the holdout', () => {
  test('takes about one text in four, the same ones in every domain, and none that is in the pool', async () => {
    const texts = numbered(400)
    const bounds = { texts: 1_000, characters: 1e6 }
    const holdouts = []
    for (const seed of ['one domain', 'another']) {
      holdouts.push(
        await withStore('holdout', async (open) => {
          const store = open({ seed, pool: bounds, holdout: bounds })
          await store.offer(texts.map((text) => offer(text)))
          const held = holdoutOf(store)
          expect(poolOf(store, Infinity).filter((text) => held.includes(text))).toEqual([])
          expect(poolOf(store, Infinity).length + held.length).toBe(400)
          return held.toSorted()
        }),
      )
    }
    expect(holdouts[0]).toEqual(holdouts[1])
    expect(Math.abs((holdouts[0]?.length ?? 0) - 100)).toBeLessThan(4 * Math.sqrt(400 * 0.25 * 0.75))
  })

  test('truncates long texts, so that a few of them cannot fill it', async () => {
    await withStore('long', async (open) => {
      const store = open()
      await store.offer(numbered(40).map((text) => offer(text + '🙂'.repeat(4_000))))
      const held = holdoutOf(store)
      expect(held.length).toBeGreaterThan(0)
      expect(held.every((text) => text.length <= 4_096 && text.isWellFormed())).toBe(true)
    })
  })
})

describe('deletion', () => {
  test('of expired texts leaves all others', async () => {
    await withStore('expiry', async (open) => {
      let nowMs = 1_000
      const store = open({
        nowMs: () => nowMs,
        pool: { texts: 1_000, characters: 1e6 },
        holdout: { texts: 1_000, characters: 1e6 },
      })
      await store.offer([
        ...numbered(8, 'old').map((text) => offer(text, { atMs: 1_000 })),
        ...numbered(8, 'new').map((text) => offer(text, { atMs: 1_500 })),
      ])
      nowMs = 1_500
      await store.offer(
        numbered(8, 'new').map((text) => offer(text, { atMs: 1_500, requestId: `again ${text}` })),
      )
      expect(store.nextExpiryMs()).toBe(2_000)
      nowMs = 2_000
      store.expire()
      expect([...poolOf(store, Infinity), ...holdoutOf(store)].every((text) => text.startsWith('new'))).toBe(
        true,
      )
      nowMs = 3_000
      store.expire()
      expect(store.stats()).toMatchObject({ samples: 0, holdoutSamples: 0 })
      expect(store.nextExpiryMs()).toBeUndefined()
    })
  })

  test('of a key removes all its texts and no others', async () => {
    await withStore('keys', async (open) => {
      const bounds = { texts: 1_000, characters: 1e6 }
      const store = open({ pool: bounds, holdout: bounds })
      await store.offer([
        ...numbered(20, 'hers').map((text) => offer(text, { keyId: 'hers' })),
        ...numbered(20, 'his').map((text) => offer(text, { keyId: 'his' })),
      ])
      expect(store.delete({ keyId: 'hers' })).toBe(20)
      expect([...poolOf(store, Infinity), ...holdoutOf(store)].every((text) => text.startsWith('his'))).toBe(
        true,
      )
      expect(store.delete({ keyId: 'hers' })).toBe(0)
      expect(store.delete()).toBe(20)
    })
  })

  test('makes room for newer texts: a full sample that was emptied fills again', async () => {
    await withStore('refill', async (open) => {
      const store = open()
      await store.offer(numbered(500).map((text) => offer(text)))
      store.delete()
      await store.offer(numbered(100, 'later').map((text) => offer(text)))
      expect(store.stats()).toMatchObject({ samples: 10, holdoutSamples: 5 })
    })
  })

  test('of a domain lets it start again from empty', async () => {
    await withStore('clear', async (open) => {
      const store = open()
      await store.offer(numbered(40).map((text) => offer(text)))
      store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
      store.clear()
      expect(store.stats()).toEqual({
        samples: 0,
        characters: 0,
        newSamples: 0,
        newCharacters: 0,
        seen: 0,
        holdoutSamples: 0,
        holdoutCharacters: 0,
        lastSampleAtMs: null,
        reviewSamples: 0,
      })
    })
  })
})

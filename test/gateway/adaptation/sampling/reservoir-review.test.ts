import { expect, test } from 'vitest'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

const BOUNDS = { pool: { texts: 200, characters: 1e6 }, holdout: { texts: 200, characters: 1e6 } }
const offers = (
  keyId: string,
  count: number,
  nllMean: (index: number) => number,
  side: 'pool' | 'holdout' = 'pool',
) =>
  Array.from({ length: count }, (_, index) =>
    offeredSample(`text ${index} of ${keyId}`, { keyId, side, atMs: 100, nllMean: nllMean(index) }),
  )
const ordinary = (index: number) => 3 + (index % 10) / 10
const update = { model: 'm', updateId: 'u', maxBytes: Infinity, outlierDeviations: 6 }

test('texts whose dense loss is far from the median of the domain are neither taken nor held out, and wait for review', async () => {
  await withStore('outliers', async (open) => {
    const store = open(BOUNDS)
    await store.offer([
      ...offers('a', 30, ordinary),
      ...offers('b', 10, ordinary, 'holdout'),
      ...offers('random', 20, () => 12),
      ...offers('random held', 5, () => 12, 'holdout'),
    ])
    expect(store.stats()).toMatchObject({ samples: 30, holdoutSamples: 10, reviewSamples: 25 })
    const taken = store.take(update)
    expect(taken).toHaveLength(30)
    expect(taken.some(({ text }) => text.includes('random'))).toBe(false)
    expect(holdoutOf(store)).toHaveLength(10)
    expect(store.review(3)).toHaveLength(3)
    expect(store.review(100)[0]).toMatchObject({ nllMean: 12, tenant: 'tenant' })
  })
})

test('a text that an operator keeps is drawn from then on, and one that is dropped is gone', async () => {
  await withStore('resolved', async (open) => {
    const store = open(BOUNDS)
    await store.offer([...offers('a', 30, ordinary), ...offers('random', 2, () => 12)])
    const [kept, dropped] = store.review(10)
    expect(store.resolveReview(kept?.id ?? '', 'keep')).toBe(true)
    expect(store.resolveReview(dropped?.id ?? '', 'drop')).toBe(true)
    expect(store.resolveReview(kept?.id ?? '', 'drop')).toBe(false)
    expect(store.stats()).toMatchObject({ samples: 31, reviewSamples: 0 })
    expect(poolOf(store)).toContain(kept?.text)
    expect(poolOf(store)).not.toContain(dropped?.text)
  })
})

test('one key with most of the texts does not make its own the ordinary ones', async () => {
  await withStore('majority', async (open) => {
    const store = open(BOUNDS)
    await store.offer([
      ...offers('random', 60, () => 12),
      ...['a', 'b', 'c'].flatMap((keyId) => offers(keyId, 10, ordinary)),
    ])
    expect(store.stats()).toMatchObject({ samples: 30, reviewSamples: 60 })
  })
})

test('many keys with one text each do not widen what is ordinary among keys with many', async () => {
  await withStore('many', async (open) => {
    const store = open({ ...BOUNDS, pool: { texts: 400, characters: 1e6 } })
    const uneven = (index: number) => (index % 10 === 9 ? 9 : ordinary(index))
    await store.offer([
      ...Array.from({ length: 11 }, (_, key) => offers(`honest-${key}`, 20, uneven)).flat(),
      ...Array.from({ length: 10 }, (_, key) => offers(`hostile-${key}`, 1, () => 12)).flat(),
    ])
    // Two of each honest key, and all of the others.
    expect(store.stats()).toMatchObject({ samples: 11 * 18, reviewSamples: 11 * 2 + 10 })
  })
})

test('a domain of few or of equal texts sets none aside, and neither does a policy without the rule', async () => {
  await withStore('few', async (open) => {
    const store = open(BOUNDS)
    await store.offer([...offers('a', 10, ordinary), ...offers('random', 2, () => 12)])
    expect(store.stats()).toMatchObject({ samples: 12, reviewSamples: 0 })
    await store.offer(offers('equal', 40, () => 3))
    expect(store.stats()).toMatchObject({ samples: 50, reviewSamples: 2 })
    store.take({ ...update, outlierDeviations: null })
    expect(store.stats()).toMatchObject({ samples: 52, reviewSamples: 0 })
  })
})

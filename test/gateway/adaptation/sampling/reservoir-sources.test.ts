import { describe, expect, test } from 'vitest'
import { ReservoirDeletions } from '../../../../gateway/src/adaptation/sampling/reservoir-deletions.ts'
import { offeredSample } from '../../support/requests/offered-sample.ts'
import { holdoutOf, poolOf, withStore } from '../../support/state/reservoir-state.ts'

const said = (keyId: string, text = 'the same', changes = {}) =>
  offeredSample(text, {
    keyId,
    tenant: `tenant of ${keyId}`,
    requestId: `${keyId} ${text}`,
    atMs: 100,
    side: 'pool',
    ...changes,
  })

describe('a text that two keys sent', () => {
  test('is stored once for both, with all that is known of each request', async () => {
    await withStore('two keys', async (open) => {
      const store = open()
      const [hers, his] = [said('hers'), said('his', 'the same', { consentVersion: 3 })]
      await store.offer([hers, his])
      const source = ({ requestId, keyId, tenant, conversation, consentVersion }: typeof hers) => ({
        requestId,
        keyId,
        tenant,
        conversation,
        consentVersion,
      })
      expect(store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })).toEqual([
        { text: 'the same', sources: [source(hers), source(his)] },
      ])
    })
  })

  test.each([
    ['key', { keyId: 'hers' }, { keyId: 'his' }],
    ['tenant', { tenant: 'tenant of hers' }, { tenant: 'tenant of his' }],
    ['request', { requestId: 'hers the same' }, { requestId: 'his the same' }],
  ])('is deleted for each %s, and gone with the last one', async (_, one, other) => {
    await withStore('both deleted', async (open) => {
      const store = open()
      await store.offer([said('hers'), said('his')])
      expect(store.delete(one)).toBe(1)
      const [left] = store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
      expect(left?.sources.map(({ keyId }) => keyId)).toEqual(['his'])
      expect(store.delete(one)).toBe(0)
      expect(store.delete(other)).toBe(1)
      expect(poolOf(store)).toEqual([])
    })
  })

  test('expires with its last request', async () => {
    await withStore('expires', async (open) => {
      let nowMs = 100
      const store = open({ nowMs: () => nowMs })
      await store.offer([said('hers')])
      nowMs = 600
      await store.offer([said('his', 'the same', { atMs: 600 })])
      nowMs = 1_100
      store.expire()
      expect(poolOf(store)).toEqual(['the same'])
      nowMs = 1_600
      store.expire()
      expect(poolOf(store)).toEqual([])
    })
  })
})

test('a filter with several fields deletes only what matches all of them', async () => {
  await withStore('all fields', async (open) => {
    const store = open()
    await store.offer([said('hers', 'one'), said('hers', 'two'), said('his', 'three')])
    expect(store.delete({ keyId: 'his', requestId: 'hers one' })).toBe(0)
    expect(store.delete({ tenant: 'tenant of hers', requestId: 'hers one' })).toBe(1)
    expect(poolOf(store).toSorted()).toEqual(['three', 'two'])
  })
})

test('sources without a tenant, which are old, are deleted with the keys of the tenant', async () => {
  await withStore('old tenant', async (open) => {
    const store = open()
    await store.offer([said('hers', 'one', { tenant: '' }), said('his', 'two', { tenant: '' })])
    expect(store.delete({ tenant: 'hers', tenantKeyIds: ['hers'] })).toBe(1)
    expect(poolOf(store)).toEqual(['two'])
  })
})

test('a text names a bounded number of sources, and goes with the last of them', async () => {
  await withStore('many sources', async (open) => {
    const store = open()
    await store.offer(Array.from({ length: 20 }, (_, index) => said(`key ${index}`)))
    const [text] = store.take({ model: 'm', updateId: 'u', maxBytes: Infinity })
    expect(text?.sources.map(({ keyId }) => keyId)).toEqual(['key 0', 'key 1', 'key 2', 'key 3'])
    for (const { keyId } of text?.sources ?? []) store.delete({ keyId })
    expect(poolOf(store)).toEqual([])
  })
})

test('a text that is sent again in its conversation is not new, in another conversation it is', async () => {
  await withStore('resent', async (open) => {
    let nowMs = 100
    const store = open({ nowMs: () => nowMs, rememberOffersMs: 50 })
    const send = (requestId: string, conversation: string) =>
      store.offer([said('hers', 'the same', { requestId, conversation })])
    await send('first', 'a')
    await send('a retry', 'a')
    expect(store.stats()).toMatchObject({ samples: 1, seen: 1 })
    nowMs = 200
    await send('after the memory of offers', 'a')
    expect(store.stats()).toMatchObject({ samples: 1, seen: 1 })
    await send('elsewhere', 'b')
    expect(store.stats()).toMatchObject({ samples: 1, seen: 2 })
  })
})

test('a text can be stored again after it was deleted, but not by a message that was queued before', async () => {
  await withStore('after deletion', async (open) => {
    let nowMs = 100
    const store = open({ nowMs: () => nowMs })
    await store.offer([said('hers'), said('his', 'another')])
    nowMs = 200
    store.delete({ keyId: 'hers' })
    nowMs = 300
    const late = said('hers', 'queued before', { atMs: 199, side: 'holdout' })
    await store.offer([late, said('his', 'also before', { atMs: 199 })])
    expect([poolOf(store).toSorted(), holdoutOf(store)]).toEqual([['also before', 'another'], []])
    await store.offer([said('hers', 'the same', { atMs: 300 })])
    expect(poolOf(store)).toContain('the same')
    nowMs = 400
    store.clear()
    await store.offer([said('his', 'queued before all was deleted', { atMs: 399 })])
    expect(poolOf(store)).toEqual([])
  })
})

test('offers read the deletions since the oldest of them, however many there were before', async () => {
  await withStore('many deletions', async (open, storage) => {
    open()
    const cursors: SqlStorageCursor<Record<string, SqlStorageValue>>[] = []
    const exec = (query: string, ...values: SqlStorageValue[]) => {
      const cursor = storage.sql.exec(query, ...values)
      cursors.push(cursor)
      return cursor
    }
    const deletions = new ReservoirDeletions({ exec } as SqlStorage)
    for (let atMs = 1; atMs <= 500; atMs += 1) deletions.remember({ requestId: `request ${atMs}` }, atMs)
    deletions.remember({ keyId: 'leaves' }, 200_000)
    deletions.matcher([])
    cursors.length = 0
    deletions.forget(1)
    const offers = [200_000 - 1, 200_000].map((atMs) => said('leaves', `at ${atMs}`, { atMs }))
    expect(offers.map(deletions.matcher(offers))).toEqual([true, false])
    expect(cursors.reduce((sum, { rowsRead }) => sum + rowsRead, 0)).toBeLessThan(10)
  })
})

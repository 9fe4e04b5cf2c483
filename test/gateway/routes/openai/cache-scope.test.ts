import { describe, expect, test } from 'vitest'
import type { CacheEntry } from '@copal/shared/wire/admin-keys.ts'
import { admin, adminJson } from '../../support/doubles/simulated-node.ts'
import {
  cacheOf,
  newRequest,
  untilCached,
  ready,
  shownHeaders,
  useCachedNode,
} from '../../support/doubles/cached-node.ts'
import { sendHeartbeat, createKey, errorOf, get, until } from '../../support/requests/gateway-requests.ts'
import { activate } from '../../support/state/seed-masks.ts'

const cached = useCachedNode()
const { ask } = cached

describe('a cached response belongs to one mask', () => {
  async function promote(version: number): Promise<void> {
    await activate('tiny', version)
    await cached.swap(version)
  }

  test('and is not found after a promotion, but again after a rollback or by the name of the version', async () => {
    const body = newRequest()
    const dense = await (await untilCached('cached', () => ask(body))).text()
    await promote(7)
    const pruned = await untilCached('cached', () => ask(body))
    expect(shownHeaders(pruned).slice(0, 2)).toEqual(['miss', '7'])
    const hit = await ask(body)
    expect([shownHeaders(hit).slice(0, 2), await hit.text()]).toEqual([['hit', '7'], await pruned.text()])
    const named = await ask({ ...body, model: 'tiny@dense' })
    expect([shownHeaders(named).slice(0, 2), await named.text()]).toEqual([['hit', '0'], dense])
    await promote(0)
    expect(await (await ask(body)).text()).toBe(dense)
  })

  test('that generated it: a node that has not swapped yet does not fill the cache of the new mask', async () => {
    const body = newRequest()
    await activate('tiny', 8)
    await sendHeartbeat(cached.node, 'tiny', { activeVersion: 0, weightSets: [ready(0)] })
    const late = await untilCached('cached', () => ask(body))
    expect(shownHeaders(late).slice(0, 2)).toEqual(['miss', '0'])
    await cached.swap(8)
    expect(shownHeaders(await ask(body)).slice(0, 2)).toEqual(['miss', '8'])
    await promote(0)
  })
})

describe('a cache belongs to one tenant', () => {
  test('whose keys share it, and keys of other tenants find, count and delete nothing in it', async () => {
    const body = newRequest()
    const ours = await (await untilCached('cached', () => ask(body))).text()
    const sibling = await createKey({ tenant: 'cached' })
    expect(await (await ask(body, {}, sibling.key)).text()).toBe(ours)
    const stranger = await createKey({ tenant: 'other', scopes: ['inference', 'admin'] })
    const theirs = await untilCached('other', () => ask(body, {}, stranger.key))
    expect(theirs.headers.get('x-copal-cache')).toBe('miss')
    expect(await theirs.text()).not.toBe(ours)
    for (const method of ['GET', 'DELETE']) {
      const response = await admin(method, '/tenants/cached/cache', undefined, stranger.key)
      expect([response.status, (await errorOf(response)).param]).toEqual([403, 'tenant'])
    }
    const own = await (await get('/admin/tenants/other/cache', stranger.key)).json<CacheEntry>()
    expect(own).toMatchObject({ tenant: 'other', answers: 1, hits: 0, misses: 1 })
  })

  test('and serves no key that may not use the model', async () => {
    const body = newRequest()
    await untilCached('cached', () => ask(body))
    const bounded = await createKey({ tenant: 'cached', allowedModels: ['something-else'] })
    const response = await ask(body, {}, bounded.key)
    expect([response.status, (await errorOf(response)).param]).toEqual([403, 'model'])
  })

  test('and its hits and misses are shown at /metrics to the tenant and the operator', async () => {
    const mine = await createKey({ tenant: 'metered', scopes: ['inference', 'read-metrics'] })
    const body = newRequest()
    await untilCached('metered', () => ask(body, {}, mine.key))
    expect((await ask(body, {}, mine.key)).headers.get('x-copal-cache')).toBe('hit')
    const { bytes } = await cacheOf('metered').stats()
    const told = [
      'copal_cache_lookups_total{tenant="metered",outcome="hit"} 1',
      'copal_cache_lookups_total{tenant="metered",outcome="miss"} 1',
      'copal_cache_answers{tenant="metered"} 1',
      `copal_cache_bytes{tenant="metered"} ${bytes}`,
    ]
    const linesOf = async (token?: string) => (await (await get('/metrics', token)).text()).split('\n')
    // The lines that show the hit: a key may not read /metrics as often as this asks.
    const own = await until('the counts', async () => {
      const lines = await linesOf(mine.key)
      return lines.includes(told[0] ?? '') ? lines : undefined
    })
    expect(own.filter((line) => line.startsWith('copal_cache_'))).toEqual(told)
    // The operator sees those of all tenants together.
    const hits = (await linesOf()).find((line) => line.startsWith('copal_cache_lookups_total{outcome="hit"}'))
    expect(Number(hits?.split(' ').at(-1))).toBeGreaterThanOrEqual(1)
  })

  test('and can be inspected and cleared by its administrator and the operator', async () => {
    const body = newRequest()
    const chief = await createKey({ tenant: 'cached', scopes: ['inference', 'admin'] })
    await untilCached('cached', () => ask(body))
    const held = await adminJson<CacheEntry>('GET', '/tenants/cached/cache')
    expect(held.answers).toBeGreaterThan(0)
    expect(held.bytes).toBeGreaterThan(0)
    const gone = await admin('DELETE', '/tenants/cached/cache', undefined, chief.key)
    expect(await gone.json()).toEqual({ tenant: 'cached', deleted: held.answers })
    expect((await ask(body)).headers.get('x-copal-cache')).toBe('miss')
    const unknown = await admin('GET', '/tenants/nobody/cache')
    expect([unknown.status, (await errorOf(unknown)).message]).toEqual([
      404,
      "There is no tenant 'nobody'. 'GET /admin/tenants' lists the tenants.",
    ])
  })
})

import { expect, test } from 'vitest'
import { loadPages } from '../../../gateway/dashboard/src/data/load-pages.ts'

/** Loads a path from given responses, and returns the paths that were asked for too. */
async function load(path: string, responses: Record<string, unknown>) {
  const asked: string[] = []
  const get = <T>({ path: wanted }: { path: string }) => {
    asked.push(wanted)
    return Promise.resolve(responses[wanted] as T)
  }
  return { value: await loadPages({ get }, path), asked }
}

test('a list that comes in pages is loaded whole', async () => {
  const { value, asked } = await load('/admin/masks?model=m', {
    '/admin/masks?model=m': { data: [3, 2], next_after: '2' },
    '/admin/masks?model=m&after=2': { data: [1], next_after: null },
  })
  expect(value).toEqual({ data: [3, 2, 1], next_after: null })
  expect(asked).toHaveLength(2)
  const keys = await load('/admin/keys', {
    '/admin/keys': { data: ['a'], next_after: '1.a b' },
    '/admin/keys?after=1.a%20b': { data: ['b'], next_after: null },
  })
  expect(keys.value).toMatchObject({ data: ['a', 'b'] })
})

test('other responses stay as they are, also pages that are loaded by hand', async () => {
  for (const response of [{ data: [1], next_after: 5 }, { models: [] }, null]) {
    const { value, asked } = await load('/admin/audit?limit=1', { '/admin/audit?limit=1': response })
    expect([value, asked.length]).toEqual([response, 1])
  }
  expect((await load('/admin/masks', { '/admin/masks': { data: [1] } })).value).toEqual({
    data: [1],
    next_after: null,
  })
})

test('a report of drift is loaded with the domains of all pages', async () => {
  const page = (domain: string, next_after: string | null) => ({
    model: 'm',
    active_version: 1,
    traffic: [],
    r: {
      domains: [domain],
      stages: [{ mask_version: 0, calibrated_domains: [] }],
      perplexity: [[7]],
      holdouts: [],
      backward_transfer: null,
      forgetting: [],
    },
    next_after,
  })
  const { value } = await load('/admin/drift?model=m', {
    '/admin/drift?model=m': page('a', 'a'),
    '/admin/drift?model=m&after=a': page('b', null),
  })
  expect(value).toMatchObject({ r: { domains: ['a', 'b'], perplexity: [[7, 7]] }, next_after: null })
})

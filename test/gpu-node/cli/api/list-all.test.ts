import { expect, test } from 'vitest'
import { z } from 'zod'
import { listAll } from '../../../../gpu-node/cli/api/list-all.ts'

/** A client that responds by path, and notes what it was asked for. */
function clientOf(responses: Record<string, unknown>) {
  const asked: string[] = []
  return {
    asked,
    admin: <T>(_method: string, path: string, schema: z.ZodType<T>) => {
      asked.push(path)
      return Promise.resolve(schema.parse(responses[path]))
    },
  }
}

test('a list is read in all its pages', async () => {
  const client = clientOf({
    '/masks?model=m': { data: [3, 2], next_after: '2' },
    '/masks?model=m&after=2': { data: [1], next_after: null },
  })
  expect(await listAll(client, '/masks?model=m', z.number())).toEqual([3, 2, 1])
  const keys = clientOf({
    '/keys': { data: [1], next_after: '1.a b' },
    '/keys?after=1.a%20b': { data: [2], next_after: '1.a b' },
  })
  // It ends where the server repeats itself.
  expect(await listAll(keys, '/keys', z.number())).toEqual([1, 2])
})

test('a list of an older gateway is one page', async () => {
  const client = clientOf({ '/tenants': { data: [1, 2] } })
  expect(await listAll(client, '/tenants', z.number())).toEqual([1, 2])
  expect(client.asked).toEqual(['/tenants'])
})

import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createFairSerialQueue, type QueueLimits } from '../../../gpu-node/src/platform/fair-serial-queue.ts'

function setup(limits: QueueLimits = {}) {
  const queue = createFairSerialQueue('pieces of work', limits)
  const events: string[] = []
  /** @param owner a tenant, and behind a slash one of its accounts */
  const run = (name: string, owner: string, signal?: AbortSignal) => {
    const [tenant, account] = owner.split('/')
    return queue.run(
      async () => {
        events.push(name)
        await turn()
        if (name === 'fails') throw new Error('it failed')
        return name
      },
      { tenant, account },
      signal,
    )
  }
  return { events, run }
}

test('tenants take turns, whatever the order of arrival, also after a failure', async () => {
  const { events, run } = setup()
  const work = ['a1', 'fails', 'a2', 'a3'].map((name) => run(name, 'a'))
  work.push(run('b1', 'b'), run('b2', 'b'), run('c1', 'c'))
  const results = await Promise.allSettled(work)
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1)
  expect(events).toEqual(['a1', 'fails', 'b1', 'c1', 'a2', 'b2', 'a3'])
  expect(await run('later', 'a')).toBe('later')
})

test('the accounts of a tenant take turns within those of the tenant', async () => {
  const { events, run } = setup()
  const work = ['a1', 'a2', 'a3'].map((name) => run(name, 'a/first'))
  work.push(run('a4', 'a/second'), run('b1', 'b'), run('b2', 'b'))
  await Promise.all(work)
  expect(events).toEqual(['a1', 'a2', 'b1', 'a4', 'b2', 'a3'])
})

test('an account that has its part of the queue leaves room for the others of its tenant', async () => {
  const { run } = setup({ total: 6, ofTenant: 4, ofAccount: 2 })
  const busy = [run('1', 'a/first'), run('2', 'a/first')]
  await expect(run('3', 'a/first')).rejects.toMatchObject({
    code: 'rate_limit_exceeded',
    message: expect.stringContaining('2 pieces of work of this API key') as string,
  })
  busy.push(run('4', 'a/second'), run('5', 'a/third'))
  await expect(run('6', 'a/fourth')).rejects.toMatchObject({
    code: 'rate_limit_exceeded',
    message: expect.stringContaining('4 pieces of work of this tenant') as string,
  })
  busy.push(run('7', 'b/first'))
  expect(await Promise.all(busy)).toEqual(['1', '2', '4', '5', '7'])
  expect(await run('3', 'a/first')).toBe('3')
})

test('an aborted waiting task leaves the queue without running, and the others go on', async () => {
  const { events, run } = setup()
  const leaver = new AbortController()
  const first = run('first', 'a')
  const left = run('left', 'b', leaver.signal)
  const last = run('last', 'b')
  leaver.abort()
  await expect(left).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(await Promise.all([first, last])).toEqual(['first', 'last'])
  expect(events).toEqual(['first', 'last'])
})

test('a tenant has at most its part of the queue', async () => {
  const { run } = setup({ total: 3, ofTenant: 2 })
  const own = [run('a1', 'a'), run('a2', 'a')]
  await expect(run('a3', 'a')).rejects.toMatchObject({ code: 'rate_limit_exceeded' })
  expect(await run('b', 'b')).toBe('b')
  await Promise.all(own)
  expect(await run('a3', 'a')).toBe('a3')
})

test('a full queue rejects tasks until one has ended', async () => {
  const { run } = setup({ total: 2 })
  const both = [run('a', 'a'), run('b', 'b')]
  await expect(run('c', 'c')).rejects.toMatchObject({ code: 'overloaded', retryAfterS: 1 })
  await Promise.all(both)
  expect(await run('c', 'c')).toBe('c')
})

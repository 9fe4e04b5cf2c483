import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createFairSerialQueue } from '../../../gpu-node/src/platform/fair-serial-queue.ts'

function setup(maxWaiting = 20, maxOfOwner?: number) {
  const queue = createFairSerialQueue('pieces of work', maxWaiting, maxOfOwner)
  const events: string[] = []
  const run = (name: string, owner: string, signal?: AbortSignal) =>
    queue.run(
      async () => {
        events.push(name)
        await turn()
        if (name === 'fails') throw new Error('it failed')
        return name
      },
      owner,
      signal,
    )
  return { events, run }
}

test('owners take turns, whatever the order of arrival, also after a failure', async () => {
  const { events, run } = setup()
  const work = ['a1', 'fails', 'a2', 'a3'].map((name) => run(name, 'a'))
  work.push(run('b1', 'b'), run('b2', 'b'), run('c1', 'c'))
  const results = await Promise.allSettled(work)
  expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1)
  expect(events).toEqual(['a1', 'fails', 'b1', 'c1', 'a2', 'b2', 'a3'])
  expect(await run('later', 'a')).toBe('later')
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

test('an owner has at most its part of the queue', async () => {
  const { run } = setup(3, 2)
  const own = [run('a1', 'a'), run('a2', 'a')]
  await expect(run('a3', 'a')).rejects.toMatchObject({ code: 'rate_limit_exceeded' })
  expect(await run('b', 'b')).toBe('b')
  await Promise.all(own)
  expect(await run('a3', 'a')).toBe('a3')
})

test('a full queue rejects tasks until one has ended', async () => {
  const { run } = setup(2)
  const both = [run('a', 'a'), run('b', 'b')]
  await expect(run('c', 'c')).rejects.toMatchObject({ code: 'overloaded', retryAfterS: 1 })
  await Promise.all(both)
  expect(await run('c', 'c')).toBe('c')
})

import { expect, test, vi } from 'vitest'
import { createEventQueues } from '../../../../gpu-node/src/serving/engine/event-queue.ts'

const iterate = <T>(events: AsyncIterable<T>) => events[Symbol.asyncIterator]()

test('events arrive in order, followed by the end or its error', async () => {
  const queues = createEventQueues<number>(100)
  const [whole, broken] = [queues.open(() => {}), queues.open(() => {})]
  whole.push(1)
  const read = iterate(whole.events)
  expect(await read.next()).toEqual({ value: 1, done: false })
  const second = read.next()
  whole.push(2)
  whole.close()
  whole.push(3)
  expect(await second).toEqual({ value: 2, done: false })
  expect(await read.next()).toMatchObject({ done: true })
  broken.push(1)
  broken.close(new Error('it broke'))
  const events = iterate(broken.events)
  expect(await events.next()).toEqual({ value: 1, done: false })
  await expect(events.next()).rejects.toThrow('it broke')
})

test('a reader gets each event once, however far it is behind and wherever it catches up', async () => {
  const queue = createEventQueues<number>(1_000_000).open(() => {})
  const events = iterate(queue.events)
  let [pushed, read] = [0, 0]
  for (const [pushes, reads] of [
    [5_000, 1_500],
    [10, 2_510],
    [3_000, 4_000],
    [1, 1],
    [2_000, 1_999],
    [1, 2],
  ] as const) {
    for (let turn = 0; turn < pushes; turn++) queue.push(pushed++)
    for (let turn = 0; turn < reads; turn++)
      expect(await events.next()).toEqual({ value: read++, done: false })
  }
  expect(read).toBe(pushed)
})

test('a reader that leaves early is reported', async () => {
  const onLeave = vi.fn<() => void>()
  const queue = createEventQueues<number>(100).open(onLeave)
  queue.push(1)
  for await (const event of queue.events) if (event === 1) break
  expect(onLeave).toHaveBeenCalledOnce()
})

test('when all queues together hold too much, the largest is ended, and the others continue', async () => {
  const queues = createEventQueues<number>(10)
  const left = vi.fn<() => void>()
  const slow = queues.open(left)
  const quick = queues.open(() => {})
  const [slowEvents, quickEvents] = [iterate(slow.events), iterate(quick.events)]
  for (let event = 0; event < 8; event++) slow.push(event)
  expect(await slowEvents.next()).toEqual({ value: 0, done: false })
  // Events that were read take no room.
  for (let event = 0; event < 100; event++) {
    quick.push(event)
    expect(await quickEvents.next()).toEqual({ value: event, done: false })
  }
  expect(left).not.toHaveBeenCalled()
  quick.push(100)
  quick.push(101)
  quick.push(102)
  quick.push(103)
  expect(left).toHaveBeenCalledOnce()
  await expect(slowEvents.next()).rejects.toMatchObject({ code: 'overloaded' })
  expect(await quickEvents.next()).toEqual({ value: 100, done: false })
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createBatcher } from '../../../gateway/src/runtime/batcher.ts'

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000, toFake: ['Date', 'setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Things gathered by events, and what each of these sent. */
function setup(most?: number) {
  const gathered = createBatcher<number>({ waitMs: 20, lostMs: 200, ...(most === undefined ? {} : { most }) })
  const sent: [event: string, things: number[]][] = []
  const add = (event: string, ...things: number[]) =>
    gathered.add({ nowMs: () => Date.now(), waitUntil: (work) => void work }, things, (all) =>
      Promise.resolve(sent.push([event, all])),
    )
  return { add, sent, take: gathered.take }
}

test('what events add within a moment is sent by the first of them, and what comes then by the next', async () => {
  const { add, sent } = setup()
  add('first', 1)
  await vi.advanceTimersByTimeAsync(19)
  add('second', 2, 3)
  expect(sent).toEqual([])
  await vi.advanceTimersByTimeAsync(1)
  expect(sent).toEqual([['first', [1, 2, 3]]])
  add('second', 4)
  await vi.advanceTimersByTimeAsync(20)
  expect(sent).toEqual([
    ['first', [1, 2, 3]],
    ['second', [4]],
  ])
})

test('as many as there may be are sent at once, and nothing is sent twice, or when there is nothing', async () => {
  const { add, sent, take } = setup(3)
  add('first', 1)
  add('second', 2, 3)
  await vi.advanceTimersByTimeAsync(0)
  expect(sent).toEqual([['second', [1, 2, 3]]])
  await vi.advanceTimersByTimeAsync(20)
  add('third', 4)
  expect(take()).toEqual([4])
  await vi.advanceTimersByTimeAsync(20)
  expect(sent).toHaveLength(1)
})

test('what an event that was ended had to send is sent by another, after a time', async () => {
  const { add, sent } = setup()
  add('ended', 1)
  vi.clearAllTimers()
  await vi.advanceTimersByTimeAsync(199)
  add('early', 2)
  expect(vi.getTimerCount()).toBe(0)
  await vi.advanceTimersByTimeAsync(1)
  add('late', 3)
  await vi.advanceTimersByTimeAsync(20)
  expect(sent).toEqual([['late', [1, 2, 3]]])
})

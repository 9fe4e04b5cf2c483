import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createBatcher } from '../../../gateway/src/runtime/batcher.ts'

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000, toFake: ['Date', 'setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
})

/** Creates a batcher with a delay of 20 ms, and records the items that each event sends. */
function setup(maxItems?: number) {
  const batcher = createBatcher<number>({
    delayMs: 20,
    senderTimeoutMs: 200,
    ...(maxItems === undefined ? {} : { maxItems }),
  })
  const sent: [event: string, items: number[]][] = []
  const add = (event: string, ...items: number[]) =>
    batcher.add({ nowMs: () => Date.now(), waitUntil: (work) => void work }, items, (all) =>
      Promise.resolve(sent.push([event, all])),
    )
  return { add, sent, take: batcher.take }
}

test('items added within the delay are sent by the first event, and later ones by the next', async () => {
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

test('a full batch is sent at once, no item is sent twice, and an empty batch is not sent', async () => {
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

test('items whose event was ended are sent by another event after the timeout', async () => {
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

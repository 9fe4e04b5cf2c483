import { expect, onTestFinished, test, vi } from 'vitest'
import {
  CallsUsedUp,
  createCallBudget,
  keepCalls,
  shareCalls,
  untilUsedUp,
  UNCOUNTED,
} from '../../../gateway/src/calls/call-budget.ts'

test('a budget gives its calls and no more, and what it refuses costs nothing', () => {
  const budget = createCallBudget(3)
  budget.take(2)
  expect(() => budget.take(2)).toThrow(CallsUsedUp)
  expect(budget.left).toBe(1)
  budget.take(1)
  expect(() => budget.take(1)).toThrow(CallsUsedUp)
  expect(UNCOUNTED.left).toBe(Infinity)
})

test('tasks share the calls of an event: half of them equally, and the rest goes to another task at each event', () => {
  for (const [tasks, calls] of [
    [10, 950],
    [14, 950],
    [3, 7],
  ] as const) {
    const turns = Array.from({ length: tasks }, (_, turn) =>
      shareCalls(tasks, turn, calls).map(({ left }) => left),
    )
    const share = Math.floor(calls / 2 / tasks)
    for (const [turn, shares] of turns.entries()) {
      expect(shares.reduce((sum, each) => sum + each, 0)).toBe(calls)
      expect(shares.filter((_, task) => task !== turn)).toEqual(Array(tasks - 1).fill(share))
    }
    expect(shareCalls(tasks, tasks, calls).map(({ left }) => left)).toEqual(turns[0])
  }
})

test('what a task leaves is for those that still run, after their own shares', () => {
  const [first, second, third] = shareCalls(3, 0, 60)
  second?.take(4)
  second?.end()
  expect([first?.left, second?.left, third?.left]).toEqual([46, 6, 16])
  third?.take(12)
  // It has taken its own ten and two of the six that were left.
  expect([first?.left, third?.left]).toEqual([44, 4])
  expect(() => third?.take(5)).toThrow(CallsUsedUp)
  third?.take(4)
  expect(first?.left).toBe(40)
  first?.take(40)
  expect(() => first?.take(1)).toThrow(CallsUsedUp)
})

test('calls that a task has reserved are not taken by others, and are given to them when it ends', () => {
  const [first, second, third] = shareCalls(3, 2, 60)
  third?.end()
  expect(first?.left).toBe(50)
  expect(first?.reserve(51)).toBe(false)
  expect(first?.reserve(30)).toBe(true)
  expect(first?.reserve(20)).toBe(true)
  expect([first?.left, second?.left]).toEqual([50, 30])
  second?.take(30)
  expect(first?.left).toBe(30)
  // The last ten are for what follows this part.
  const part = first && keepCalls(first, 10)
  expect(part?.left).toBe(20)
  expect(part?.reserve(21)).toBe(false)
  first?.take(20)
  expect(() => part?.take(1)).toThrow(CallsUsedUp)
  expect(first?.left).toBe(10)
  first?.end()
  expect(second?.left).toBe(10)
})

test('work whose calls are used up ends with a warning, and other errors are thrown', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined)
  onTestFinished(() => warn.mockRestore())
  await untilUsedUp('The work', Promise.reject(new Error('wrapped', { cause: new CallsUsedUp() })))
  expect(warn.mock.calls).toEqual([['The work has used the calls of an event; a later event goes on.']])
  await expect(untilUsedUp('The work', Promise.reject(new Error('broken')))).rejects.toThrow('broken')
})

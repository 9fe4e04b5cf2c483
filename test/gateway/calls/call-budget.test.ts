import { expect, test } from 'vitest'
import {
  CallsUsedUp,
  createCallBudget,
  shareCalls,
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

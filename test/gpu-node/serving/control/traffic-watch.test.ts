import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createTrafficWatch } from '../../../../gpu-node/src/serving/control/traffic-watch.ts'

// The clock is not that of the machine, which other processes slow down.
beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('a node is busy from its first request until a while after its last one', () => {
  let requests = 0
  const states: boolean[] = []
  const end = createTrafficWatch(() => requests, 300).subscribe((isBusy) => states.push(isBusy))
  expect(states).toEqual([false])
  requests = 2
  vi.advanceTimersByTime(100)
  expect(states).toEqual([false, true])
  // A gap between requests.
  requests = 0
  vi.advanceTimersByTime(250)
  requests = 1
  vi.advanceTimersByTime(100)
  requests = 0
  vi.advanceTimersByTime(250)
  expect(states).toEqual([false, true])
  vi.advanceTimersByTime(100)
  expect(states).toEqual([false, true, false])
  end()
  requests = 1
  vi.advanceTimersByTime(150)
  expect(states).toHaveLength(3)
})

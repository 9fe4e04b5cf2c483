import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createHangWatch } from '../../../gpu-node/src/platform/hang-watch.ts'

const LIMITS = { idleMs: 20_000, workMs: 60_000 }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function watchOf(threads = 1) {
  const onHang = vi.fn<(how: string) => void>()
  return { onHang, watch: createHangWatch(threads, onHang) }
}

test('a process without work may be idle', () => {
  const { watch, onHang } = watchOf()
  vi.advanceTimersByTime(100_000)
  watch.begin(LIMITS)
  vi.advanceTimersByTime(19_000)
  watch.end()
  vi.advanceTimersByTime(100_000)
  expect(onHang).not.toHaveBeenCalled()
})

test('the time that reports themselves take is no progress', () => {
  const { watch, onHang } = watchOf()
  watch.begin(LIMITS)
  for (let second = 1; second <= 20; second++) {
    watch.used(second)
    vi.advanceTimersByTime(1000)
  }
  expect(onHang).toHaveBeenCalledExactlyOnceWith(
    'was ended, because it hung: it used no processor time for 20 s',
  )
})

test('work that gets little processor time goes on, and each piece begins its time anew', () => {
  const { watch, onHang } = watchOf()
  watch.begin(LIMITS)
  for (let second = 1; second <= 1000; second++) {
    watch.used(second * 100)
    if (second === 500) watch.begin(LIMITS)
    vi.advanceTimersByTime(1000)
  }
  expect(onHang).not.toHaveBeenCalled()
})

test('work may use its limit on each of its threads', () => {
  const { watch, onHang } = watchOf(2)
  watch.begin(LIMITS)
  watch.used(120_000)
  vi.advanceTimersByTime(2000)
  expect(onHang).not.toHaveBeenCalled()
  watch.used(120_001)
  vi.advanceTimersByTime(2000)
  expect(onHang).toHaveBeenCalledExactlyOnceWith(
    'was ended, because it hung: it used more than 60 s of each of 2 processors without a result',
  )
})

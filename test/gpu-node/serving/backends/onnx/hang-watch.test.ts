import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createHangWatch } from '../../../../../gpu-node/src/serving/backends/onnx/hang-watch.ts'

const LIMITS = { idleMs: 20_000, callMs: 60_000 }

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function watchOf(threads = 1) {
  const onHang = vi.fn<(how: string) => void>()
  return { onHang, watch: createHangWatch(threads, onHang, LIMITS) }
}

test('a process without calls may be idle', () => {
  const { watch, onHang } = watchOf()
  vi.advanceTimersByTime(100_000)
  watch.calls(1)
  vi.advanceTimersByTime(19_000)
  watch.calls(0)
  vi.advanceTimersByTime(100_000)
  expect(onHang).not.toHaveBeenCalled()
})

test('the time that reports themselves take is no progress', () => {
  const { watch, onHang } = watchOf()
  watch.calls(1)
  for (let second = 1; second <= 20; second++) {
    watch.used(second)
    vi.advanceTimersByTime(1000)
  }
  expect(onHang).toHaveBeenCalledOnce()
})

test('a call that gets little processor time goes on, and each answer begins its time anew', () => {
  const { watch, onHang } = watchOf()
  watch.calls(2)
  for (let second = 1; second <= 1000; second++) {
    watch.used(second * 100)
    if (second === 500) watch.calls(1)
    vi.advanceTimersByTime(1000)
  }
  expect(onHang).not.toHaveBeenCalled()
})

test('a call may use the limit on each of its threads', () => {
  const { watch, onHang } = watchOf(2)
  watch.calls(1)
  watch.used(120_000)
  vi.advanceTimersByTime(2000)
  expect(onHang).not.toHaveBeenCalled()
  watch.used(120_001)
  vi.advanceTimersByTime(2000)
  expect(onHang).toHaveBeenCalledOnce()
})

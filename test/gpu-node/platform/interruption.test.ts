import { afterEach, expect, test, vi } from 'vitest'
import { interruptionOfProcess } from '../../../gpu-node/src/platform/interruption.ts'

const before = { SIGINT: process.rawListeners('SIGINT'), SIGTERM: process.rawListeners('SIGTERM') }
const own = (signal: 'SIGINT' | 'SIGTERM') =>
  process.rawListeners(signal).filter((listener) => !before[signal].includes(listener)) as (() => void)[]

afterEach(() => {
  vi.useRealTimers()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    for (const listener of own(signal)) process.off(signal, listener)
})

test('a signal that is passed on as well interrupts once, and one a second later ends the process', () => {
  vi.useFakeTimers()
  const interrupted = interruptionOfProcess()
  const [listener] = own('SIGINT')
  listener?.()
  expect(interrupted.aborted).toBe(true)
  expect(own('SIGINT')).toEqual([listener])
  listener?.()
  vi.advanceTimersByTime(1_000)
  expect(own('SIGINT')).toEqual([])
})

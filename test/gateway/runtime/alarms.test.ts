import { expect, onTestFinished, test, vi } from 'vitest'
import { createAlarms } from '../../../gateway/src/runtime/alarms.ts'

function start() {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const rang: string[] = []
  const alarms = createAlarms()
  return { rang, set: (name: string, ms: number) => alarms.after(ms, () => rang.push(name)) }
}

test('each alarm is called once at its time, in any order of setting', () => {
  const { rang, set } = start()
  set('third', 5_000)
  set('first', 200)
  set('second', 1_500)
  vi.advanceTimersByTime(199)
  expect(rang).toEqual([])
  vi.advanceTimersByTime(1)
  expect(rang).toEqual(['first'])
  vi.advanceTimersByTime(1_299)
  expect(rang).toEqual(['first'])
  vi.advanceTimersByTime(1)
  expect(rang).toEqual(['first', 'second'])
  vi.advanceTimersByTime(60_000)
  expect(rang).toEqual(['first', 'second', 'third'])
})

test('a cancelled alarm is not called, and the others are', () => {
  const { rang, set } = start()
  const cancel = set('gone', 100)
  set('there', 100)
  cancel()
  cancel()
  vi.advanceTimersByTime(100)
  expect(rang).toEqual(['there'])
})

test('any number of alarms uses one timer of the runtime, and none if all are cancelled', () => {
  const { set } = start()
  const cancels = [30_000, 5_000, 1_800_000, 100_000].map((ms) => set(String(ms), ms))
  expect(vi.getTimerCount()).toBe(1)
  for (const cancel of cancels) cancel()
  expect(vi.getTimerCount()).toBe(0)
})

test('the callback of an alarm can set another alarm and cancel others', () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const rang: string[] = []
  const alarms = createAlarms()
  alarms.after(100, () => {
    rang.push('first')
    alarms.after(300, () => rang.push('again'))
    cancel()
  })
  const cancel = alarms.after(100, () => rang.push('taken back'))
  vi.advanceTimersByTime(400)
  expect(rang).toEqual(['first', 'again'])
})

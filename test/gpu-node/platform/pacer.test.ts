import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createPacer, type Pacer } from '../../../gpu-node/src/platform/pacer.ts'

// The clock is not that of the machine, which other processes slow down.
beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Pauses, and returns how long that took, in milliseconds. */
async function pauseMs(pacer: Pacer): Promise<number> {
  const startMs = performance.now()
  const [endMs] = await Promise.all([pacer.pause().then(() => performance.now()), vi.runAllTimersAsync()])
  return endMs - startMs
}

/** Works in pieces of `pieceMs`, and returns the share of the time that it worked. */
async function dutyOf(pacer: Pacer, pieceMs: number): Promise<number> {
  let waitedMs = 0
  for (let piece = 0; piece < 10; piece++) {
    vi.advanceTimersByTime(pieceMs)
    waitedMs += await pauseMs(pacer)
  }
  return (10 * pieceMs) / (10 * pieceMs + waitedMs)
}

test.each([
  [0.3, 10],
  [0.3, 60],
  [0.5, 20],
  [1, 20],
])('work takes the share %f of the time while it is bound, in pieces of %i ms', async (share, pieceMs) => {
  const pacer = createPacer(share)
  pacer.bind(true)
  // Timers count whole milliseconds.
  expect(Math.abs((await dutyOf(pacer, pieceMs)) / share - 1)).toBeLessThan(0.05)
})

test('work that is not bound never waits', async () => {
  expect(await dutyOf(createPacer(0.1), 10)).toBe(1)
})

test('a wait ends as soon as the work is released, and what came before it was bound costs nothing', async () => {
  const pacer = createPacer(0.01)
  vi.advanceTimersByTime(50)
  pacer.bind(true)
  expect(await pauseMs(pacer)).toBeLessThan(1)
  // This wait would last five seconds.
  vi.advanceTimersByTime(50)
  setTimeout(() => pacer.bind(false), 60)
  expect(await pauseMs(pacer)).toBe(60)
})

test('a wait ends when it is aborted, with the reason', async () => {
  const pacer = createPacer(0.01)
  pacer.bind(true)
  vi.advanceTimersByTime(50)
  const abort = new AbortController()
  setTimeout(() => abort.abort(new Error('not wanted any more')), 30)
  const startMs = performance.now()
  await Promise.all([
    expect(pacer.pause(abort.signal)).rejects.toThrow('not wanted any more'),
    vi.advanceTimersByTimeAsync(30),
  ])
  expect(performance.now() - startMs).toBe(30)
  await expect(pacer.pause(abort.signal)).rejects.toThrow('not wanted any more')
})
